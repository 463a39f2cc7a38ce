"""A thousand mutated files: each is refused in one line, or changes no number, and none runs anything.

What a file's reader gives is compared with what the sound file gives. Where a mutation is taken all the same,
nothing that a result is made of may differ; what may is named in `Subject.free`, with the reason.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import json
import pathlib
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import bases
import guard
import mutations
import numpy as np
import pytest
from mutations import Bytes

from loro_jax import compare, files
from loro_jax.data import answers, episodes
from loro_jax.errors import UserError
from loro_jax.interchange import pickles, released, rows
from loro_jax.language import gguf, journal, models, prompts, session, survey, tables
from loro_jax.records import results
from loro_jax.running.store import Store
from loro_jax.tasks import load

REPOSITORY = pathlib.Path(__file__).parent.parent.parent
LAKE = load("frozen_lake")
SPACE = LAKE.environment().action_space
EPISODES = episodes.SHIPPED / "frozen_lake" / "qwen2.5-coder-0.5b-instruct-direct"
OTHER = episodes.SHIPPED / "frozen_lake" / "smollm2-135m-instruct-cot"
ANSWERS = answers.SHIPPED / "frozen_lake" / "qwen2.5-coder-0.5b-instruct-cell"
MACHINE = {"backend": "cpu", "devices": 2, "precision": "32 bits", "processor": "a chip"}
LINE = 500
"""Characters of a refusal at most."""


@dataclasses.dataclass(frozen=True)
class Found:
    """What a reader gives.

    Attributes:
        numbers: all that results are made of, and that says what they are of.
        named: what is another's name where identities are compared, and enters no number.
    """

    numbers: Any
    named: Any = None


@dataclasses.dataclass(frozen=True)
class Subject:
    """A kind of file, as it lies in a folder with others.

    Attributes:
        name: of the test.
        file: the one that is mutated.
        make: writes the sound files into a folder.
        read: what users read it with: folder -> `Found`.
        kinds: ways to mutate it.
        count: mutated files in all.
        free: why a mutation may be taken although `named` differs; empty where it may not.
    """

    name: str
    file: str
    make: Callable[[pathlib.Path], Any]
    read: Callable[[pathlib.Path], Found]
    kinds: Sequence[Bytes]
    count: int
    free: str = ""


def plain(value: Any) -> Any:
    """A value that compares by what it holds, arrays by type, shape and bytes."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, np.ascontiguousarray(value).tobytes()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


# Episodes


def sealed_episodes(folder: pathlib.Path) -> None:
    """Shipped ones, saved as they are today, with their transcript's hash."""
    _, steps = journal.read_transcript(EPISODES / journal.TRANSCRIPT)
    found = read_lake(EPISODES)
    card = {**found.card, journal.HASH: journal.digest(steps), "alignment": "released"}
    card["episode_returns"] = found.returns.tolist()
    episodes.save(dataclasses.replace(found, card=card), folder)
    shutil.copy(EPISODES / journal.TRANSCRIPT, folder)


def older_episodes(folder: pathlib.Path) -> None:
    """Somebody's from before there were hashes, not among those that the suite knows."""
    first, steps = journal.read_transcript(EPISODES / journal.TRANSCRIPT)
    data = read_lake(EPISODES)
    last = len(data.episode_lengths) - 1
    steps = [step for step in steps if step["episode"] < last]
    lines = [json.dumps(line).encode() + b"\n" for line in (first, *steps)]
    card = {**data.card, "answers": session.statistics(steps)}
    episodes.save(dataclasses.replace(data.first(last), card=card), folder)
    written = json.loads((folder / "card.json").read_text())
    del written[files.SEAL]
    (folder / "card.json").write_text(json.dumps(written))
    (folder / journal.TRANSCRIPT).write_bytes(gzip.compress(b"".join(lines), mtime=0))


def older_episodes_of(folder: pathlib.Path) -> Found:
    (numbers, asked, said), named = dataclasses.astuple(episodes_of(folder))
    return Found((numbers, said, min(asked) > 0), (named, asked))


def shipped_episodes(folder: pathlib.Path) -> None:
    shutil.copytree(EPISODES, folder, dirs_exist_ok=True)


def read_lake(folder: pathlib.Path) -> episodes.Episodes:
    env = LAKE.environment()
    return episodes.load(folder, LAKE.name, env.observation_shape, SPACE)


def episodes_of(folder: pathlib.Path) -> Found:
    """As `experiment.prepare_experiment` reads them."""
    data = read_lake(folder)
    journal.check(folder, data.card)
    asked = [journal.questions(folder, n) for n in (1, 10, 30)]
    numbers = (
        data.transitions._asdict(),
        data.episode_lengths,
        data.returns,
        data.card.get("alignment", "true"),
    )
    named = {k: data.card.get(k) for k in ("name", "model", "prompt")}
    return Found((numbers, asked, episodes.digest(data)), named)


EDITED = (
    "a card without a seal, as those from before there were any, or one's own: its name, model and prompt's"
    " name are the user's, enter no number, and are compared where identities are; its other fields are read"
    " by nobody, or give a warning (`episodes.warnings`), or are printed"
)


ASKED = (
    "a transcript from before cards had its hash, and not one that came with the suite: its counts are held"
    " to the card, its actions to the arrays; of how many questions the first episodes needed, a card says no"
    " more than the sum over all"
)


# Answers


def sealed_answers(folder: pathlib.Path) -> None:
    _, entries = journal.read_transcript(ANSWERS / journal.TRANSCRIPT)
    table = tables.read(ANSWERS, LAKE)
    texts = files.read_npz(ANSWERS / "answers.npz")["texts"].tolist()
    card = {**table.card, journal.HASH: journal.digest(entries)}
    answers.save(dataclasses.replace(table, card=card), texts, folder)
    shutil.copy(ANSWERS / journal.TRANSCRIPT, folder)


def shipped_answers(folder: pathlib.Path) -> None:
    shutil.copytree(ANSWERS, folder, dirs_exist_ok=True)


def older_answers(folder: pathlib.Path) -> None:
    """Somebody's from before there were hashes, not among those that the suite knows."""
    first, entries = journal.read_transcript(ANSWERS / journal.TRANSCRIPT)
    entries = [entry for entry in entries if "attempts" in entry]  # without the scores
    for entry in entries:
        entry["attempts"].pop()
    lines = [json.dumps(line).encode() + b"\n" for line in (first, *entries)]
    table = tables.read(ANSWERS, LAKE)
    made = survey.attempts_of(entries)
    card = table.card | {"answers": len(made), **survey.prompt_tokens(entries)}
    card["answer_tokens"] = sum(attempt["answer_tokens"] for attempt in made)
    card.pop("scored_answers", None)
    texts = files.read_npz(ANSWERS / "answers.npz")["texts"].tolist()
    fewer = dataclasses.replace(table, card=card, actions=table.actions[:, :-1], log_probs=None)
    answers.save(fewer, texts, folder)
    written = json.loads((folder / "card.json").read_text())
    del written[files.SEAL]
    (folder / "card.json").write_text(json.dumps(written))
    (folder / journal.TRANSCRIPT).write_bytes(gzip.compress(b"".join(lines), mtime=0))


def answers_of(folder: pathlib.Path) -> Found:
    table = tables.read(folder, LAKE)
    scores = None if table.log_probs is None else table.log_probs
    numbers = (table.digits, table.actions, table.asked, scores, answers.digest(table))
    named = {k: table.card.get(k) for k in ("name", "model", "prompt")}
    return Found(numbers, named)


def surveyed(folder: pathlib.Path) -> Found:
    """As a survey that goes on reads them, up to where it would ask."""
    found, _ = journal.read_transcript(ANSWERS / journal.TRANSCRIPT)
    prompt = prompts.load(LAKE, "cell")
    with contextlib.closing(journal.Journal(folder, found, survey.order)) as record:
        settings = survey.Settings(model="x", out=folder)
        coding = tables.coding_of(LAKE, prompt.text)
        going = survey.Survey(settings, LAKE, prompt, coding, folder, found, None)  # type: ignore[arg-type]
        going.check(record.steps)
        known = survey.Known(record.steps)
        going.check_table(known)
        return Found((known.said, known.scores), (known.texts, record.steps))


COUNTED = (
    "a transcript from before cards had its hash: questions, answers and numbers of tokens are held to the"
    " card and the arrays, and each answer to the action that is read from it; the words before it, and how"
    " long a question took, enter no number that is there"
)


# A collection's journal

COLLECTION = {"environment": "frozen_lake", "seed": 3}


def journal_of_rounds(folder: pathlib.Path) -> None:
    _, steps = journal.read_transcript(EPISODES / journal.TRANSCRIPT)
    with contextlib.closing(journal.Journal(folder, COLLECTION)) as record:
        for begin in range(0, 60, 4):
            record.append(steps[begin : begin + 4])


def older_journal(folder: pathlib.Path) -> None:
    """From before rounds had a hash."""
    journal_of_rounds(folder)
    first, *rounds = (folder / journal.JOURNAL).read_text().splitlines()
    lines = [first, *(json.dumps(json.loads(line)["steps"]) for line in rounds)]
    (folder / journal.JOURNAL).write_text("\n".join(lines) + "\n")


def journal_read(folder: pathlib.Path) -> Found:
    with contextlib.closing(journal.Journal(folder, COLLECTION)) as record:
        if not all(session._is_step(step, SPACE) for step in record.steps):
            raise UserError(f"{folder}: its record is damaged")
        steps = record.steps
    # What is cut off behind a whole round is asked again, and comes out the same.
    whole = journal.read_transcript(EPISODES / journal.TRANSCRIPT)[1][: len(steps)]
    return Found((steps == whole and len(steps) % 4 == 0,))


# A run


def finished_run(folder: pathlib.Path) -> None:
    bases.run(folder)


def older_run(folder: pathlib.Path) -> None:
    """A shipped one, without a seal and without what nothing here reads."""
    source = REPOSITORY / "results" / "frozen_lake" / "standard@1"
    for name in ("run.json", "curves.npz", "details.npz", "summary.json"):
        shutil.copy(source / name, folder)
    run = json.loads((folder / "run.json").read_text())
    run["files"] = {k: v for k, v in run["files"].items() if (folder / k).is_file()}
    (folder / "run.json").write_text(json.dumps(run))


def run_of(folder: pathlib.Path) -> Found:
    """As `compare`, `merge`, `report` and `loro_jax.read` do."""
    saved, summary, ran = results.finished(folder)
    compare.load(folder)
    numbers = (saved.curves, saved.env_steps, saved.details, summary)
    return Found(numbers, (ran, {k: v for k, v in saved.run.items() if k not in ("files", files.SEAL)}))


RAN = (
    "a run.json from before it had a seal: what ran is compared with what another run says, which is told;"
    " seconds, versions and the machine are told, and enter no number"
)


# Checkpoints


def interrupted(folder: pathlib.Path) -> None:
    with Store(folder, bases.IDENTITY, resume=False, computed_on=MACHINE) as store:
        rng = np.random.default_rng(0)
        arm = {"records": rng.random((4, 10)), "seconds": np.asarray(1.5), "diverged": np.full(4, -1)}
        store.finish("pure_rl", arm)
        files.write_json(folder / "checkpoints" / "loro.json", files.sealed({"done": 2, "seconds": 20.0}))


def resumed(folder: pathlib.Path) -> Found:
    with Store(folder, bases.IDENTITY, resume=True, computed_on=MACHINE) as store:
        return Found(store.finished("pure_rl"))


LIKE = {
    "weights": np.linspace(0, 1, 12, dtype=np.float32).reshape(4, 3),
    "steps": np.arange(4, dtype=np.int32),
}


def checkpoints(folder: pathlib.Path) -> None:
    """Two steps of a population that is a few numbers."""
    from loro_jax.training.population import Progress

    with Store(folder, bases.IDENTITY, resume=False, computed_on=MACHINE) as store:
        for done in (1, 2):
            runs: Any = {k: v + done for k, v in LIKE.items()}
            store.checkpoint("loro", Progress(done, runs, np.full((4, done), 0.5, np.float32)), 10.0 * done)


def restored(folder: pathlib.Path) -> Found:
    """The newest step, or, where that is damaged, the one before, from which the work since is done again."""
    with Store(folder, bases.IDENTITY, resume=True, computed_on=MACHINE) as store:
        like: Any = dict(LIKE)
        found = store.restore("loro", like)
    assert found is not None
    progress, seconds = found
    assert progress.done in (1, 2) and seconds == 20.0
    runs: Any = progress.runs
    same = all(np.array_equal(runs[k], LIKE[k] + progress.done) for k in LIKE)
    return Found((same, np.array_equal(progress.records, np.full((4, progress.done), 0.5))))


def of_some_file(step: str) -> tuple[Bytes, ...]:
    """Mutations of bytes, for whichever of orbax's files is drawn."""
    return mutations.BYTES


# Prompts


def prompt_file(folder: pathlib.Path) -> None:
    shutil.copy(prompts.FOLDER / "frozen_lake" / "cell.txt", folder / "mine.txt")


def prompt_read(folder: pathlib.Path) -> Found:
    found = prompts.load(LAKE, str(folder / "mine.txt"))
    text = (folder / "mine.txt").read_text(encoding="utf-8-sig").strip()
    return Found((found.text == text,), found.sha256)


OWN = (
    "a prompt is its author's text: another one has another hash, by which cards and records tell them apart"
)


# The study's files


def study_pickle(folder: pathlib.Path) -> None:
    (folder / "CartPole_Some-7B.pkl").write_bytes(bases.pickled(bases.cartpole()))


def study_arrays(folder: pathlib.Path) -> None:
    np.savez(folder / "CartPole_Some-7B.npz", **bases.cartpole())


def pickle_read(folder: pathlib.Path) -> Found:
    path = folder / "CartPole_Some-7B.pkl"
    env = load("cartpole").environment()
    return Found(rows.checked(path, pickles.read_mdp_dataset(path), env))


def converted(folder: pathlib.Path) -> Found:
    """As the command converts them: every row is held to the simulator."""
    (path,) = folder.glob("CartPole_*")
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    card = released.convert_file(path, "cartpole", "true", out)
    assert max(card["share_reproduced"].values()) == 1 and card["source_sha256"] == files.digest(path)
    data = episodes.load(out, "cartpole", (4,), load("cartpole").environment().action_space)
    shutil.rmtree(out)
    t, told = data.transitions, (card["source_sha256"], data.card["arrays_sha256"])
    arrays = bases.cartpole()
    ends = np.cumsum(arrays["episode_lengths"])
    kept = np.setdiff1d(np.arange(len(arrays["actions"])), ends - arrays["episode_lengths"])
    if len(kept) != len(t.action):
        return Found((t, data.episode_lengths), told)
    near = np.abs(t.next_obs - arrays["observations"][kept]).max() < 1e-4
    same = np.array_equal(t.action, arrays["actions"][kept, 0]) and np.allclose(t.reward, 1, atol=1e-4)
    return Found((near, same, t.terminated, t.truncated, data.episode_lengths), told)


STUDY = (
    "the study's files have no hash: a row that the simulator does not reproduce is refused; what is left"
    " lies below its tolerance, and is another dataset by its hashes"
)


# A model


def model_file(folder: pathlib.Path) -> None:
    (folder / "tiny.gguf").write_bytes(bases.gguf()[0])


def model_header(folder: pathlib.Path) -> Found:
    model = models.find(str(folder / "tiny.gguf"))
    gguf.check(model.path)
    return Found((model.name,), model.sha256)


ANOTHER_MODEL = (
    "a model that the suite does not know is any file of that form, and tried before it is used (see"
    " test_models); its SHA-256 is in the identity of all that it says"
)

HEADER = bases.gguf()[1]
HEAVY = (mutations.bomb, mutations.a_bomb)
LINES_OF_RECORDS = (*mutations.PACKED_LINES, *mutations.BYTES, mutations.bomb)


def swapped(source: pathlib.Path) -> Bytes:
    def another_file(rng: np.random.Generator, data: bytes) -> bytes:
        return source.read_bytes()

    another_file.__name__ = f"is {source.parent.name}/{source.name}"
    return another_file


CARD = (
    *mutations.JSON, *mutations.BYTES, swapped(OTHER / "card.json"), swapped(ANSWERS / "card.json"),
    swapped(EPISODES / "episodes.npz"), swapped(REPOSITORY / "results/frozen_lake/standard@1/run.json"),
)  # fmt: skip
MARK = "/tmp/loro_jax-fuzz-ran"
"""Made by whatever is run that must not be."""
NPZ = (
    *mutations.NPZ, *mutations.BYTES, mutations.objects(MARK), mutations.a_bomb,
    swapped(OTHER / "episodes.npz"), swapped(ANSWERS / "answers.npz"), swapped(EPISODES / "card.json"),
)  # fmt: skip

SUBJECTS = (
    Subject("episodes", "episodes.npz", shipped_episodes, episodes_of, NPZ, 130),
    Subject("their card", "card.json", sealed_episodes, episodes_of, CARD, 100),
    Subject("their card, unsealed", "card.json", shipped_episodes, episodes_of, CARD, 60, EDITED),
    Subject("their transcript", journal.TRANSCRIPT, sealed_episodes, episodes_of, LINES_OF_RECORDS, 60),
    Subject(
        "their transcript, shipped", journal.TRANSCRIPT, shipped_episodes, episodes_of, LINES_OF_RECORDS, 30,
    ),
    Subject(
        "their transcript, unsealed", journal.TRANSCRIPT, older_episodes, older_episodes_of, LINES_OF_RECORDS,
        40, ASKED,
    ),
    Subject("answers", "answers.npz", shipped_answers, answers_of, NPZ, 90),
    Subject("answers' card", "card.json", sealed_answers, answers_of, CARD, 70),
    Subject("answers' card, unsealed", "card.json", shipped_answers, answers_of, CARD, 50, EDITED),
    Subject(
        "a survey's transcript, shipped", journal.TRANSCRIPT, shipped_answers, surveyed, LINES_OF_RECORDS, 25,
    ),
    Subject("a survey's transcript", journal.TRANSCRIPT, sealed_answers, surveyed, LINES_OF_RECORDS, 50),
    Subject(
        "a survey's transcript, unsealed", journal.TRANSCRIPT, older_answers, surveyed, LINES_OF_RECORDS, 50,
        COUNTED,
    ),
    Subject(
        "a journal", journal.JOURNAL, journal_of_rounds, journal_read,
        (*mutations.LINES, *mutations.BYTES), 60,
    ),
    Subject("run.json", "run.json", finished_run, run_of, CARD, 80),
    Subject("run.json, unsealed", "run.json", older_run, run_of, CARD, 50, RAN),
    Subject("summary.json", "summary.json", finished_run, run_of, CARD, 25),
    Subject("curves", "curves.npz", finished_run, run_of, NPZ, 25),
    Subject("details", "details.npz", finished_run, run_of, NPZ, 25),
    Subject("a finished arm", "checkpoints/pure_rl.npz", interrupted, resumed, NPZ, 70),
    Subject("checkpoints' identity", "checkpoints/identity.json", interrupted, resumed, CARD, 50),
    Subject("a prompt", "mine.txt", prompt_file, prompt_read, mutations.BYTES, 50, OWN),
    Subject(
        "a pickle", "CartPole_Some-7B.pkl", study_pickle, pickle_read,
        (*mutations.of_programs(MARK), *mutations.PICKLES), 45,
    ),
    Subject("a model", "tiny.gguf", model_file, model_header, mutations.of_gguf(HEADER), 60, ANOTHER_MODEL),
)  # fmt: skip
SLOW = (
    Subject("a checkpoint", "checkpoints/loro/2", checkpoints, restored, mutations.BYTES, 40),
    Subject(
        "a pickle, converted", "CartPole_Some-7B.pkl", study_pickle, converted, mutations.BYTES, 25, STUDY
    ),
    Subject(
        "the study's arrays", "CartPole_Some-7B.npz", study_arrays, converted,
        (*mutations.NPZ, *mutations.BYTES, mutations.objects(MARK)), 40, STUDY,
    ),
)  # fmt: skip
"""Those that compile programs, or read with orbax."""
TOTAL = sum(subject.count for subject in (*SUBJECTS, *SLOW))
BY_DEFAULT = 8
"""Files of each subject that are read in every test run."""


def test_there_are_a_thousand() -> None:
    assert TOTAL >= 1000


def numbers(subject: Subject, first: int, end: int) -> Iterator[tuple[int, np.random.Generator, Bytes]]:
    """Every kind comes before one comes again, the heavy ones last; which is first is the subject's own."""
    begin = zlib.crc32(subject.name.encode())
    light = [kind for kind in subject.kinds if kind not in HEAVY]
    kinds = [light[i] for i in np.random.default_rng(begin).permutation(len(light))]
    kinds += [kind for kind in subject.kinds if kind in HEAVY]
    for index in range(first, end):
        yield index, np.random.default_rng([begin, index]), kinds[index % len(kinds)]


def told(said: str) -> bool:
    """Whether it is a line that a terminal shows as it is."""
    return bool(said) and said.isprintable() and len(said) <= LINE


def fuzz(subject: Subject, first: int, end: int, tmp_path: pathlib.Path) -> dict[str, int]:
    """Mutates and reads -> how many were refused, and how many were harmless, or free."""
    sound = tmp_path / "sound"
    sound.mkdir()
    subject.make(sound)
    wanted, found = subject.read(sound), {"refused": 0, "harmless": 0, "free": 0}
    wanted = Found(plain(wanted.numbers), plain(wanted.named))
    folder, mark = tmp_path / "folder", pathlib.Path(MARK)
    mark.unlink(missing_ok=True)
    for index, rng, kind in numbers(subject, first, end):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(sound, folder)
        path = folder / subject.file
        if path.is_dir():
            below = sorted(p for p in path.rglob("*") if p.is_file() and p.stat().st_size)
            path = below[rng.integers(len(below))]
        before = path.read_bytes()
        path.write_bytes(kind(rng, before))
        which = f"{subject.name}, number {index}: {kind.__name__}"
        peak = guard.peak()
        try:
            with guard.watching(tmp_path) as seen, guard.in_time():
                got = subject.read(folder)
        except UserError as refusal:
            assert told(str(refusal)), f"{which}: {str(refusal)!r}"
            found["refused"] += 1
        except BaseException as error:
            raise AssertionError(f"{which}: {type(error).__name__}: {error}") from error
        else:
            assert plain(got.numbers) == wanted.numbers, f"{which}: is taken silently"
            same = plain(got.named) == wanted.named
            assert same or subject.free, f"{which}: is taken, and named otherwise"
            found["harmless" if same else "free"] += 1
        assert not seen and not mark.exists(), f"{which}: {seen}"
        assert guard.peak() - peak < guard.MEBIBYTES, f"{which}: takes {guard.peak() - peak} MiB"
    return found


def check(
    subject: Subject, first: int, end: int, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = fuzz(subject, first, end, tmp_path)
    assert sum(found.values()) == end - first
    printed = "".join(capfd.readouterr())
    assert all(told(line) for line in printed.splitlines()), repr(printed)


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_some(subject: Subject, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> None:
    check(subject, 0, BY_DEFAULT, tmp_path, capfd)


@pytest.mark.slow
@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_the_others(subject: Subject, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> None:
    check(subject, BY_DEFAULT, subject.count, tmp_path, capfd)


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine .* was never awaited:RuntimeWarning"
)
@pytest.mark.parametrize("subject", SLOW, ids=lambda subject: subject.name)
def test_those_that_take_longer(
    subject: Subject, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    check(subject, 0, subject.count, tmp_path, capfd)

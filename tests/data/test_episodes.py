"""The offline dataset: what is written comes back aligned, and what is damaged or foreign is refused."""

from __future__ import annotations

import io
import json
import pathlib
import shutil
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loro_jax.data import episodes as dataset
from loro_jax.departures.alignment import realign
from loro_jax.errors import EpisodeError
from loro_jax.spaces import Discrete
from loro_jax.types import Transition

LENGTHS = (5, 1, 8, 3)
CARD = {"name": "sentinel", "environment": "cartpole", "alignment": "true", "model": "none"}


def sentinel(lengths: tuple[int, ...] = LENGTHS, cut: tuple[int, ...] = (2,)) -> dataset.Episodes:
    """Episodes whose every field encodes its episode and step; those in `cut` end truncated.

    State t of episode e is (e, t, 1000 e + t, -t); action, reward of step t are t % 2 and 1000 e + t.
    """
    parts = []
    for e, length in enumerate(lengths):
        t = np.arange(length + 1)
        states = np.stack([np.full(length + 1, e), t, 1000 * e + t, -t], axis=1).astype(np.float32)
        last = t[:-1] == length - 1
        parts.append(
            Transition(
                obs=states[:-1],
                action=(t[:-1] % 2).astype(np.int32),
                reward=(1000 * e + t[:-1]).astype(np.float32),
                next_obs=states[1:],
                terminated=last & (e not in cut),
                truncated=last & (e in cut),
            )
        )
    joined = Transition(*(np.concatenate(field) for field in zip(*parts, strict=True)))
    return dataset.Episodes(joined, np.array(lengths), dict(CARD))


def load(folder: pathlib.Path) -> dataset.Episodes:
    return dataset.load(folder, "cartpole", (4,), Discrete(2))


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    dataset.save(sentinel(), tmp_path / "sentinel")
    return tmp_path / "sentinel"


def rewrite(folder: pathlib.Path, **changes: Any) -> None:
    """Replaces arrays of `episodes.npz` (None removes one); without a hash, as a stranger's file is."""
    with np.load(folder / "episodes.npz") as archive:
        arrays = {name: archive[name] for name in archive.files} | changes
    kept = {name: array for name, array in arrays.items() if array is not None}
    np.savez(folder / "episodes.npz", allow_pickle=True, **kept)
    card = json.loads((folder / "card.json").read_text())
    del card["arrays_sha256"]
    (folder / "card.json").write_text(json.dumps(card))


def test_round_trip(folder: pathlib.Path) -> None:
    wanted, found = sentinel(), load(folder)
    for name in Transition._fields:
        a, b = getattr(wanted.transitions, name), getattr(found.transitions, name)
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
    np.testing.assert_array_equal(found.episode_lengths, LENGTHS)
    assert CARD.items() <= found.card.items()
    assert (found.card["episodes"], found.card["steps"]) == (4, 17)
    np.testing.assert_array_equal(found.returns, [10, 1000, 16028, 9003])
    assert dataset.digest(found) == dataset.digest(wanted) == found.card["arrays_sha256"]
    assert sorted(p.name for p in folder.iterdir()) == ["card.json", "episodes.npz"]


def test_saving_what_was_loaded_changes_nothing(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    dataset.save(load(folder), tmp_path / "again")
    assert (tmp_path / "again" / "card.json").read_text() == (folder / "card.json").read_text()


def test_first_takes_whole_episodes(folder: pathlib.Path) -> None:
    two = load(folder).first(2)
    np.testing.assert_array_equal(two.transitions.reward, [0, 1, 2, 3, 4, 1000])
    with pytest.raises(EpisodeError, match="holds 4 episodes, but tau asks for 5"):
        load(folder).first(5)


def test_realignment_of_sentinel_data() -> None:
    true = sentinel()
    released = realign(true, "released").transitions
    # Released rows pair action and reward of step t with the state after it, t + 1, and the one after that.
    episode, step = released.obs[:, 0], released.obs[:, 1]
    np.testing.assert_array_equal(released.reward, 1000 * episode + step - 1)
    np.testing.assert_array_equal(released.action, (step - 1) % 2)
    inner = ~released.terminated
    np.testing.assert_array_equal(released.next_obs[inner, 1], step[inner] + 1)
    assert not released.next_obs[released.terminated].any()
    assert len(released.reward) == 17 - 1  # the last row of the one episode that was cut
    back = realign(realign(true, "released"), "true")
    assert (back.card["alignment"], realign(true, "true")) == ("true", true)
    t = back.transitions
    np.testing.assert_array_equal(t.reward, 1000 * t.obs[:, 0] + t.obs[:, 1])
    np.testing.assert_array_equal(t.next_obs[:, 1], t.obs[:, 1] + 1)
    # Each episode lost its first step; the cut one lost its last as well, the one of length 1 is gone.
    np.testing.assert_array_equal(back.episode_lengths, [4, 6, 2])
    np.testing.assert_array_equal(back.ends, np.cumsum([4, 6, 2]))
    assert t.terminated.sum() == 2 and not t.truncated.any()


def test_realigned_episodes_can_be_saved_and_loaded(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    released = realign(load(folder), "released")
    dataset.save(released, tmp_path / "released")
    assert dataset.digest(load(tmp_path / "released")) == dataset.digest(released)


def rows(value: Any = 0.0, kind: Any = np.float32) -> np.ndarray:
    return np.full(17, value, kind)


def states(change: Callable[[np.ndarray], None]) -> np.ndarray:
    array = sentinel().transitions.obs.copy()
    change(array)
    return array


def swap(array: np.ndarray) -> None:
    array[[1, 2]] = array[[2, 1]]


FOREIGN: dict[str, tuple[dict[str, Any], str]] = {
    "an array is missing": ({"rewards": None}, "lacks the arrays rewards"),
    "no arrays of ours": ({name: None for name in dataset.ARRAYS}, "lacks the arrays observations"),
    "observations of another game": ({"observations": np.zeros((17, 3))}, "observations has shape"),
    "a row less": ({"rewards": np.zeros(16)}, "rewards has shape"),
    "actions in a column": ({"actions": np.zeros((17, 1), int)}, "actions has shape"),
    "an action out of range": ({"actions": rows(2, int)}, "whole numbers from 0 to 1"),
    "a negative action": ({"actions": rows(-1, int)}, "whole numbers from 0 to 1"),
    "half an action": ({"actions": rows(0.5)}, "whole numbers from 0 to 1"),
    "NaN reward": ({"rewards": rows(np.nan)}, "not finite"),
    "infinite observation": ({"observations": states(lambda a: a.fill(np.inf))}, "not finite"),
    "a number too large for float32": ({"rewards": rows(1e300, np.float64)}, "not finite"),
    "complex reward": ({"rewards": rows(1j, complex)}, "expected numbers"),
    "text": ({"rewards": rows("a", "U1")}, "expected numbers"),
    "dates": ({"rewards": rows(0, "M8[s]")}, "expected numbers"),
    "objects": ({"rewards": np.array([{}] * 17, object)}, "damaged or not an .npz"),
    "records": ({"rewards": rows(0, [("a", "f4")])}, "expected numbers"),
    "flags as floats": ({"terminated": rows(0.5)}, "terminated"),
    "flags beyond one": ({"truncated": rows(7, int)}, "truncated"),
    "lengths that do not add up": ({"episode_lengths": np.array([5, 1, 8, 4])}, "expected (18"),
    "an empty episode": ({"episode_lengths": np.array([5, 1, 8, 3, 0])}, "no steps"),
    "a negative length": ({"episode_lengths": np.array([5, 1, 12, -1])}, "no steps"),
    "no episodes": ({"episode_lengths": np.zeros(0, int)}, "episode_lengths"),
    "a single length": ({"episode_lengths": np.array(17)}, "episode_lengths"),
    "float lengths": ({"episode_lengths": np.array([5.0, 1, 8, 3])}, "episode_lengths"),
    "lengths that wrap around": ({"episode_lengths": np.array([2**63, 2**63, 17], np.uint64)}, "shape"),
    "rows out of order": ({"observations": states(swap)}, "following row's observations"),
    "goes on after its end": ({"terminated": rows(True, bool)}, "goes on after it terminated"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_arrays_are_refused(folder: pathlib.Path, case: str) -> None:
    changes, why = FOREIGN[case]
    rewrite(folder, **changes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refused(folder, "episodes.npz", why)


def refused(folder: pathlib.Path, file: str, why: str = "") -> None:
    """Loading raises an `EpisodeError` of one line that names the file and says `why`."""
    with pytest.raises(EpisodeError) as caught:
        load(folder)
    message = str(caught.value)
    assert str(folder / file) in message and why in message and "\n" not in message, message


CARDS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not readable as JSON"),
    "not JSON": (b"model: qwen", "not readable as JSON"),
    "cut": (b'{"environment": "cartpo', "not readable as JSON"),
    "not text": (b"\xff\xfe\x00", "not readable as JSON"),
    "nested too deeply": (b"[" * 100_000, "not readable as JSON"),
    "a list": (b"[]", "not a JSON object"),
    "no environment": (b"{}", "not of 'cartpole'"),
    "another environment": (b'{"environment": "pong"}', "episodes of 'pong', not of 'cartpole'"),
    "unknown alignment": (b'{"environment": "cartpole", "alignment": "left"}', "alignment 'left'"),
    "alignment is a list": (b'{"environment": "cartpole", "alignment": []}', "alignment"),
    "ragged returns": (
        b'{"environment": "cartpole", "episode_returns": [[1], 2, 3, [4, 5]]}',
        "episode_returns",
    ),
    "returns as text": (b'{"environment": "cartpole", "episode_returns": "abcd"}', "episode_returns"),
    "returns too few": (b'{"environment": "cartpole", "episode_returns": [1, 2, 3]}', "episode_returns"),
    "returns not finite": (
        b'{"environment": "cartpole", "episode_returns": [1, 2, 3, NaN]}',
        "episode_returns",
    ),
    "another hash": (b'{"environment": "cartpole", "arrays_sha256": "0"}', "not those that card.json"),
}


@pytest.mark.parametrize("case", CARDS)
def test_bad_cards_are_refused(folder: pathlib.Path, case: str) -> None:
    text, why = CARDS[case]
    (folder / "card.json").write_bytes(text)
    refused(folder, "card.json" if case != "another hash" else "episodes.npz", why)


@pytest.mark.parametrize("name", ["card.json", "episodes.npz"])
def test_missing_files_are_named(folder: pathlib.Path, name: str) -> None:
    (folder / name).unlink()
    refused(folder, name, "no such file")
    (folder / name).mkdir()
    refused(folder, name, "no such file")
    refused(folder / "absent", "card.json", "no such file")


def test_episodes_of_another_card_are_refused(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    dataset.save(sentinel((5, 1, 8, 2)), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "episodes.npz", folder / "episodes.npz")
    refused(folder, "episodes.npz", "not those that card.json was written for")


def test_truncated_at_any_byte_is_refused(folder: pathlib.Path) -> None:
    data = (folder / "episodes.npz").read_bytes()
    for cut in {
        0,
        1,
        3,
        4,
        29,
        30,
        100,
        len(data) // 2,
        len(data) - 22,
        len(data) - 1,
        *range(0, len(data), 37),
    }:
        (folder / "episodes.npz").write_bytes(data[:cut])
        refused(folder, "episodes.npz", "damaged or not an .npz file")
    (folder / "episodes.npz").write_bytes(data)
    load(folder)


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    at=st.floats(0, 1, exclude_max=True),
    change=st.one_of(st.integers(0, 7).map(lambda bit: bytes([1 << bit])), st.binary(min_size=1, max_size=9)),
    compressed=st.booleans(),
    insert=st.booleans(),
)
def test_random_damage_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, at: float, change: bytes, compressed: bool, insert: bool
) -> None:
    wanted = sentinel()
    folder = tmp_path_factory.getbasetemp() / "damage"
    dataset.save(wanted, folder)
    if not compressed:  # plain arrays have headers to hit, where the compressor would have noticed
        with np.load(folder / "episodes.npz") as archive:
            np.savez(folder / "episodes.npz", **{name: archive[name] for name in archive.files})
    data = bytearray((folder / "episodes.npz").read_bytes())
    position = int(at * len(data))
    if insert:
        data[position:position] = change
    else:
        for offset, byte in enumerate(change[: len(data) - position]):
            data[position + offset] ^= byte
    (folder / "episodes.npz").write_bytes(bytes(data))
    try:
        found = load(folder)
    except EpisodeError as error:
        assert str(folder / "episodes.npz") in str(error) and "\n" not in str(error)
    else:  # a byte that means nothing, such as a date: the arrays are the very same
        assert dataset.digest(found) == dataset.digest(wanted)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-17,), }",
        "{'descr': '<f4', 'fortran_order': False, ",
        "__import__('os').abort()",
        "{'descr': '|O', 'fortran_order': False, 'shape': (17,), }",
        "(" * 3_000,
    ],
)
def test_hostile_array_headers_are_refused(folder: pathlib.Path, header: str) -> None:
    text = header.encode() + b"\n"
    array = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(68)
    with zipfile.ZipFile(folder / "episodes.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(folder / "episodes.npz", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, array if name == "rewards.npy" else data)
    refused(folder, "episodes.npz", "damaged or not an .npz file")


def test_other_files_under_that_name_are_refused(folder: pathlib.Path) -> None:
    plain = io.BytesIO()
    np.save(plain, np.zeros(17))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("rewards.txt", "1 2 3")
    for data in (plain.getvalue(), b"\x80\x04N.", b"text", b"\x89HDF\r\n\x1a\n"):
        (folder / "episodes.npz").write_bytes(data)
        refused(folder, "episodes.npz", "damaged or not an .npz file")
    (folder / "episodes.npz").write_bytes(archive.getvalue())
    refused(folder, "episodes.npz", "lacks the arrays")


def test_a_refusal_changes_no_file(folder: pathlib.Path) -> None:
    rewrite(folder, rewards=rows(np.nan))
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    refused(folder, "episodes.npz", "not finite")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_names_are_resolved(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "SHIPPED", folder.parent.parent)
    environment = folder.parent.name
    assert dataset.resolve(str(folder), "anything") == folder
    assert dataset.resolve("sentinel", environment) == folder
    assert dataset.shipped(environment) == ["sentinel"]
    with pytest.raises(EpisodeError, match="no episodes at 'nonsense'; shipped are: sentinel"):
        dataset.resolve("nonsense", environment)


def test_ones_own_episodes_come_before_shipped_ones(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "SHIPPED", folder.parent.parent)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    own = pathlib.Path("results") / "episodes" / folder.parent.name
    (own / "mine").mkdir(parents=True)
    assert dataset.resolve("mine", folder.parent.name) == own / "mine"
    assert dataset.resolve("sentinel", folder.parent.name) == folder
    (own / "sentinel").mkdir()
    assert dataset.resolve("sentinel", folder.parent.name) == own / "sentinel"


@pytest.mark.parametrize(
    ("share", "says"),
    [(1, "100 %"), (1.0, "100 %"), (0.123456, "12.3 %"), (0.05, "5 %"), (0.0499, ""), (0, "")],
)
def test_random_play_is_warned_of(share: float, says: str) -> None:
    found = dataset.warnings({**CARD, "complete": True, "answers": {"random_action_share": share}})
    assert found == [
        f"{says} of the prior data's actions were drawn at random, since the model's answers"
        " could not be read (card.json: answers.random_action_share)"
    ] * bool(says)


def test_an_unfinished_collection_is_warned_of() -> None:
    (found,) = dataset.warnings({**CARD, "complete": False})
    assert "not complete (card.json: complete)" in found
    assert len(dataset.warnings({"complete": False, "answers": {"random_action_share": 0.5}})) == 2


def test_foreign_cards_are_warned_of_for_nothing_and_damaged_ones_for_what_they_hide() -> None:
    for answers in (None, 1, "all", [], {}, {"random_action_share": None}, {"random_action_share": 0}):
        assert dataset.warnings({"answers": answers}) == []
    for share in ("1", True, [1], float("nan"), float("inf"), -1, 2, 10**400):
        (said,) = dataset.warnings({"answers": {"random_action_share": share}})
        assert "is not known: its card is damaged" in said
    for complete in (None, 0, "false", {}):
        (said,) = dataset.warnings({"complete": complete})
        assert "a collection that is not complete" in said
    assert dataset.warnings({}) == dataset.warnings({"complete": True}) == []

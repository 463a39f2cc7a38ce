"""The scripts of docs/scale.md are sound, name flags that there are, and stop and requeue as it says."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

from loro_jax.running.options import Options

PAGE = (pathlib.Path(__file__).parent.parent / "docs" / "scale.md").read_text()
SCRIPTS = dict(re.findall(r"<!-- (\S+\.sh) -->\n```bash\n(.*?)```", PAGE, re.DOTALL))
RUN = r"""#!/bin/bash
# In the place of python: says what it was given, and stops as a run does.
echo "$@" >> given
trap 'exit 130' TERM
if [[ -e finish ]]; then exit 0; fi
touch started
while true; do sleep 0.05; done
"""


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_can_be_read(name: str) -> None:
    subprocess.run(["bash", "-n"], input=SCRIPTS[name], text=True, check=True)


def test_every_flag_is_there() -> None:
    code = " ".join(re.findall(r"```(?:bash)?\n(.*?)```", PAGE, re.DOTALL)).replace("\\\n", " ")
    lines = [line for line in code.splitlines() if "-m benchmarks." in line]
    known = {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(Options)}
    assert len(lines) == 5
    for line in lines:
        flags = re.findall(r"--[\w-]+", line.split("-m benchmarks.")[1])
        assert flags and set(flags) <= known, line


def test_the_array_job_stops_and_goes_back_into_the_queue(tmp_path: pathlib.Path) -> None:
    for name, text in (("python", RUN), ("scontrol", '#!/bin/bash\necho "$@" >> asked\n')):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": "2", "SLURM_JOB_ID": "17",
    }  # fmt: skip

    def begin() -> subprocess.Popen[bytes]:
        return subprocess.Popen(["bash", "-c", SCRIPTS["array.sh"]], cwd=tmp_path, env=environment)

    job = begin()
    end = time.monotonic() + 60
    while not (tmp_path / "started").exists():
        assert time.monotonic() < end and job.poll() is None
        time.sleep(0.02)
    job.send_signal(signal.SIGTERM)
    assert job.wait(60) == 130
    assert (tmp_path / "asked").read_text() == "requeue 17\n"
    (tmp_path / "finish").touch()
    assert begin().wait(60) == 0
    assert (tmp_path / "asked").read_text() == "requeue 17\n"
    line = "-m benchmarks.cartpole --seed-range 128:192 --resume --out results/cartpole/part-2\n"
    assert (tmp_path / "given").read_text() == 2 * line

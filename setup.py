"""What a wheel holds: the packages of loro_jax and benchmarks, and the files that `loro_jax.shipped` finds.

All else is in pyproject.toml, which can find packages or map folders into them, but not both.
"""

from setuptools import find_packages, setup

SHIPPED = {"loro_jax.prompts": "prompts", "loro_jax.results": "results"}

setup(
    packages=[*find_packages(include=["loro_jax", "loro_jax.*", "benchmarks", "benchmarks.*"]), *SHIPPED],
    package_dir=SHIPPED,
    package_data={
        "loro_jax.prompts": ["**/*.txt"],
        "loro_jax.results": [
            f"{kind}/*/*/{file}"
            for kind, array in (("episodes", "episodes.npz"), ("answers", "answers.npz"))
            for file in ("card.json", array, "transcript.jsonl.gz")
        ],
    },
    include_package_data=False,
)

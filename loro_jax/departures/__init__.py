"""Where the reference study's released code departs from the method that its paper describes.

Each departure is a switch, off by default, so that the rest of the suite reads without them:

| | flag | where |
| --- | --- | --- |
| 1 | `--alignment released`: an action is paired with the observation after it | `alignment.py` |
| 2 | `--chained-repeats`: repeats go on from one another's weights | `arms.py` |
| 3 | `--pretrain-target-frequency`: another for the LORO arms | `arms.py` |
| 4 | `--limits-terminal`: every prior episode ends as if by the rules | `training/prior.py` |
| 5 | `--shared-pretraining`: seeds share one pretraining on LLM episodes | `arms.py` |
| 6 | `--exploration mode`, `--action-range unit`: SAC's policy while training | `agents/sac.py` |
| 7 | `--keep-baseline-data`: baselines keep their pretraining data online | `arms.py` |
| | `--drop-cut`: a cut episode loses its last transition (d3rlpy's recorder) | `training/phases.py` |
"""

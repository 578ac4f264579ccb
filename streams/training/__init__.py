"""Training jobs as processes: from a request on `training-jobs` to the end state on `job-updates`.

`records` tells requests from controls, `folder` is what a job's folder says of it, `lock` lets one runner at a time
have a job, `log` reads its progress, `launcher` starts its process, `runner` brings one job to its end, `display`
shows that to a person, and `by_hand` runs the tiers once. `streams.training.service` puts them to work.
"""

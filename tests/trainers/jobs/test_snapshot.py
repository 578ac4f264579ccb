import hashlib
from datetime import UTC, datetime

import pytest

from schemas.errors import JobError
from schemas.settings import Settings
from trainers.jobs.accumulate import CompletedRun
from trainers.jobs.snapshot import freeze_job, job_folder, job_id, write_dataset, write_job

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RUN = CompletedRun(("a", "b"), (b'{"x":1}', b'{"x":2}'))


def test_the_job_id_is_a_hash_of_tier_and_ids_in_order():
    names = {
        job_id("dpo", ["a", "b"]),
        job_id("dpo", ["b", "a"]),
        job_id("sft", ["a", "b"]),
        job_id("dpo", ["ab"]),
        job_id("dpo", ["a"]),
    }
    assert len(names) == 5
    assert job_id("dpo", ["a", "b"]) == job_id("dpo", ["a", "b"])


def test_the_dataset_stands_on_disk_before_the_job_names_it(tmp_path):
    job = freeze_job(tmp_path, "dpo", RUN, Settings(), NOON)
    data = (tmp_path / job.dataset_path).read_bytes()
    assert data == b'{"x":1}\n{"x":2}\n'
    assert job.dataset_sha256 == hashlib.sha256(data).hexdigest()
    assert (job.example_count, job.dataset_path) == (2, f"jobs/{job.job_id}/dataset.jsonl")


def test_a_repetition_gives_the_same_job(tmp_path):
    assert freeze_job(tmp_path, "dpo", RUN, Settings(), NOON) == freeze_job(tmp_path, "dpo", RUN, Settings(), NOON)
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == [job_id("dpo", RUN.ids)]


def test_a_job_repeats_the_settings_of_its_tier(tmp_path):
    settings = Settings.model_validate(
        {
            "pairs": {"min_reward_gap": 0.4},
            "traces": {"max_tokens": 99},
            "jobs": {"base_model": "some/model", "dpo": {"beta": 0.3}, "sft": {"batch_size": 3}},
        }
    )
    dpo = freeze_job(tmp_path, "dpo", RUN, settings, NOON)
    sft = freeze_job(tmp_path, "sft", RUN, settings, NOON)
    assert dpo.base_model == "some/model"
    assert (dpo.settings["rules"]["min_reward_gap"], dpo.settings["training"]["beta"]) == (0.4, 0.3)
    assert (sft.settings["rules"]["max_tokens"], sft.settings["training"]["batch_size"]) == (99, 3)


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".", "UPPER", "x" * 129, "nul\x00"])
def test_a_job_id_that_is_no_plain_name_is_refused(tmp_path, name):
    with pytest.raises(JobError, match="job id"):
        job_folder(tmp_path, name)


def test_an_example_of_several_lines_is_refused(tmp_path):
    with pytest.raises(JobError, match="example 2"):
        write_dataset(tmp_path, "job", [b"{}", b"{\n}"])
    assert not (tmp_path / "jobs").exists()


def test_the_job_is_written_beside_its_dataset(tmp_path):
    job = freeze_job(tmp_path, "sft", RUN, Settings(), NOON)
    folder = write_job(tmp_path, job)
    assert sorted(path.name for path in folder.iterdir()) == ["dataset.jsonl", "job.json"]
    assert type(job).from_json((folder / "job.json").read_bytes()) == job

"""The command line: help, mistakes and their exit codes, always in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from streams.cli.main import cli, main


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    code = ended.value.code
    assert isinstance(code, int)
    return code


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text("[scorer]\nrank = 0\n")
    (tmp_path / "empty.jsonl").write_text("")


def all_commands(group: click.Group, path: str = "") -> list[tuple[str, click.Command]]:
    """Return every command with its full name, groups and what is in them."""
    found = []
    for name, command in sorted(group.commands.items()):
        found.append((path + name, command))
        if isinstance(command, click.Group):
            found += all_commands(command, f"{path}{name} ")
    return found


@pytest.mark.parametrize(("name", "command"), all_commands(cli))
def test_every_command_has_help_with_an_example(
    name: str, command: click.Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*name.split(), "--help") == 0
    shown = capsys.readouterr().out
    assert f"Example: tierstream {name}" in shown
    assert isinstance(command, click.Group) or "--config" in shown


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in cli.commands)


NOWHERE = "127.0.0.1:1"
MISTAKES = [
    (["bogus"], 2, "No such command 'bogus'"),
    (["lag", "--bogus"], 2, "No such option: --bogus; see tierstream lag --help"),
    (["lag", "--max-lag", "-1"], 2, "-1 is not in the range"),
    (["lag", "--watch", "--interval", "0"], 2, "0.0 is not in the range"),
    (["produce"], 2, "Missing argument"),
    (["produce", "nowhere", "empty.jsonl"], 2, "'nowhere' is not one of"),
    (["produce", "feedback", "empty.jsonl", "--rate", "0"], 2, "0.0 is not in the range"),
    (["worker", "--web-port", "70000"], 2, "70000 is not in the range"),
    (["worker", "--roles", "join,pears"], 2, "'pears' is none of join, scorer, pairs, traces"),
    (["worker", "--roles", ""], 2, "'' is none of join, scorer, pairs, traces"),
    (["jobs", "show", "dpo-1"], 1, "no job dpo-1 in data/jobs; tierstream jobs list names them"),
    (["jobs", "retry", "../x"], 1, "job id '../x' is not of lower-case letters, digits and hyphens"),
    (["jobs", "logs"], 2, "Missing argument 'JOB'"),
    (["up", "--broker", "nats"], 2, "'nats' is not one of"),
    (
        ["up", "--bootstrap-servers", NOWHERE, "--broker-port", "19092"],
        2,
        "--bootstrap-servers names another: give one",
    ),
    (["schema", "Feedbak"], 2, "'Feedbak' is not one of Experience, Feedback"),
    (["lag", "--config", "absent.toml"], 1, "absent.toml cannot be read: No such file"),
    (["lag", "--config", "bad.toml"], 1, "scorer.rank = 0 (file bad.toml) cannot be; allowed is a whole number"),
    (["lag", "--bootstrap-servers", "nonsense"], 1, "kafka.bootstrap_servers = 'nonsense' (flag --bootstrap-servers)"),
    (["lag", "--bootstrap-servers", NOWHERE], 1, f"broker {NOWHERE} cannot be reached; start one with"),
    (["topics", "--bootstrap-servers", NOWHERE], 1, f"broker {NOWHERE} cannot be reached"),
    (["trainer", "--bootstrap-servers", NOWHERE], 1, f"broker {NOWHERE} cannot be reached"),
    (["produce", "feedback", "absent.jsonl"], 1, "absent.jsonl cannot be read: No such file"),
    (["produce", "feedback", "."], 1, ". cannot be read: Is a directory"),
    (["produce", "feedback", "empty.jsonl", "--bootstrap-servers", NOWHERE], 1, f"broker {NOWHERE} cannot be reached"),
    (["schema", "--asyncapi", "empty.jsonl/x"], 1, "empty.jsonl/x cannot be written"),
    (["broker", "--data-dir", "empty.jsonl"], 1, "data_dir = 'empty.jsonl' is a file; name a folder with --data-dir"),
    (["models", "list", "--data-dir", "empty.jsonl"], 1, "data_dir = 'empty.jsonl' is a file"),
    (["broker", "--data-dir", "/proc/none"], 1, "/proc/none"),
    (["broker", "--config"], 2, "Option '--config' requires an argument"),
    (["worker", "--config", "bad.toml"], 1, "scorer.rank = 0 (file bad.toml) cannot be"),
    (["score", "absent.json"], 1, "absent.json cannot be read: No such file or directory; name a file of JSON, or -"),
    (["score", "empty.jsonl"], 1, "empty.jsonl is empty; a request is"),
    (["score", "bad.toml"], 1, "request 1 of bad.toml is no JSON"),
    (["models", "show", "nothing"], 1, "'nothing' is no name of a version; `tierstream models list` has them"),
    (["models", "promote", "../../x"], 1, "'../../x' is no name of a version"),
    (["models", "rollback", "nothing"], 2, "'nothing' is not one of 'scorer', 'policy'"),
    (["models", "rollback", "scorer"], 1, "no version of scorer was in use before"),
    (["audit", "--json", "--html"], 2, "choose one of --json, --markdown, --html"),
    (["audit", "--explain", "e1", "--bootstrap-servers", NOWHERE], 1, f"broker {NOWHERE} cannot be reached"),
    (["dead-letters", "show", "x"], 2, "'x' is not a valid integer range"),
    (["dead-letters", "retry"], 2, "say which: NUMBERS, --reason, --topic, --since or --all"),
    (["dead-letters", "list", "--since", "soon"], 2, "'soon' is neither a duration such as 2h nor a time"),
    (["replay"], 2, "give TOPIC (experiences, feedback, claude-traces), or --tier scorer --verify"),
    (["replay", "--tier", "scorer", "--verify"], 1, "holds no checkpoint yet; let a worker learn first"),
    (["retrain"], 1, "holds no scorer yet; let a worker learn first"),
    (["export", "feedback"], 2, "Missing option '--to'"),
    (["export", "feedback", "--to", "d", "--bootstrap-servers", NOWHERE], 1, f"broker {NOWHERE} cannot be reached"),
    (["train", "--pause", "--resume"], 2, "--pause"),
]


@pytest.mark.parametrize(("arguments", "code", "words"), MISTAKES, ids=lambda value: str(value)[:60])
def test_mistake_is_one_line_with_its_exit_code(
    arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert words in shown.err


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    assert "Commands:" in capsys.readouterr().err


def test_bad_variable_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TIERSTREAM_SCORER__RNK", "8")
    assert run("lag") == 1
    assert capsys.readouterr().err == (
        "error: unknown setting scorer.rnk (environment TIERSTREAM_SCORER__RNK); did you mean scorer.rank?\n"
    )


def test_schema_prints_one_event_or_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schema", "Feedback") == 0
    one = json.loads(capsys.readouterr().out)
    assert one["title"] == "Feedback"
    assert set(one["required"]) == {"feedback_id", "experience_id", "timestamp", "source"}
    assert run("schema") == 0
    assert json.loads(capsys.readouterr().out)["Feedback"] == one


def test_schema_writes_files(tmp_path: Path) -> None:
    assert run("schema", "--json-schema", "schemas", "--asyncapi", "asyncapi.json") == 0
    assert json.loads((tmp_path / "schemas" / "Trace.json").read_text())["title"] == "Trace"
    document = json.loads((tmp_path / "asyncapi.json").read_text())
    assert document["asyncapi"] == "3.0.0"
    assert document["channels"]["feedback"]["address"] == "feedback"
    assert document["operations"]["receive-feedback"]["action"] == "receive"
    payload = document["components"]["messages"]["Feedback"]["payload"]
    assert payload == {"$ref": "#/components/schemas/Feedback"}
    assert document["components"]["schemas"]["Feedback"]["title"] == "Feedback"


def test_doctor_tells_values_sources_and_the_effective_network(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TIERSTREAM_SCORER__RANK", "8")
    monkeypatch.setenv("TIERSTREAM_WEB__TOKEN", "hunter2")
    assert run("doctor", "--json", "--bootstrap-servers", NOWHERE) == 1
    shown = capsys.readouterr().out
    report = json.loads(shown)
    assert report["scorer_parameters"] == 7145
    assert report["settings"]["scorer.rank"] == {"value": 8, "source": "environment TIERSTREAM_SCORER__RANK"}
    assert report["settings"]["kafka.bootstrap_servers"] == {"value": NOWHERE, "source": "flag --bootstrap-servers"}
    verdicts = {check["name"]: check["verdict"] for check in report["checks"]}
    assert verdicts["broker"] == "failed"
    assert verdicts["scorer"] == verdicts["faust"] == verdicts["data directory"] == verdicts["java"] == "ok"
    assert "hunter2" not in shown


def test_reader_that_goes_away_is_no_error() -> None:
    command = [sys.executable, "-m", "streams.cli", "schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_file_in_the_working_folder_is_no_module_of_what_a_command_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "random.py").write_text("print('imported from the working folder')")
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)

    @click.command()
    def spawning() -> None:
        started = [sys.executable, "-m", "streams.cli", "--version"]
        click.echo(subprocess.run(started, capture_output=True, text=True, check=True).stdout)

    monkeypatch.setitem(cli.commands, "spawning", spawning)
    assert run("spawning") == 0
    told = capsys.readouterr().out
    assert told.startswith("tierstream, version ")
    assert "working folder" not in told

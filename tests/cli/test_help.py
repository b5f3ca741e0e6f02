"""``cmrsr help``: every topic has a manual, which says what is true of the command line."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from cmrsr.cli import run
from cmrsr.cli.app import app
from cmrsr.cli.manual import MANUALS, manual

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]


def test_without_a_topic_all_are_listed(capfd: Capture) -> None:
    assert run(["help"]) == 0
    listed = capfd.readouterr().out
    assert all(f"cmrsr help {topic} " in listed for topic in MANUALS)


@pytest.mark.parametrize("topic", MANUALS)
def test_a_manual_is_printed_as_it_is_written(topic: str, capfd: Capture) -> None:
    assert run(["help", topic]) == 0
    assert capfd.readouterr().out == manual(topic).read_text()


def test_an_unknown_topic_names_those_that_there_are(capfd: Capture) -> None:
    assert run(["help", "everything"]) == 2
    assert "expected one of sr, interp4d," in capfd.readouterr().err


@pytest.mark.parametrize("path", [ROOT / "README.md", *map(manual, MANUALS)], ids=lambda p: p.parent.name)
def test_commands_and_options_in_it_exist(path: Path) -> None:
    """Of every ``cmrsr`` line in a block of code."""
    text = path.read_text()
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in re.findall(r"(?:^|&& )(?:\.venv/bin/)?cmrsr ([^#\n&]*)", block, re.MULTILINE):
            words = line.split()
            command = COMMANDS[words[0]]
            if words[0] == "evaluate":
                command = command.commands[words[1]]
            known = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
            used = {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"}
            assert used <= known, line


@pytest.mark.parametrize("path", [ROOT / "README.md", *map(manual, MANUALS)], ids=lambda p: p.parent.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target

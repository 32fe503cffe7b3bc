"""The command `noria init`: a job file, by asking."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from noria.engine.cli import FORMS, Create, Endpoint
from noria.engine.terminal.console import exit_codes, print_lines, say_unless
from noria.manifests.errors import ConfigurationError

TRIES = 10
"""Answers to one question that are refused before the command gives up."""


_QUESTIONS = {
    "source": "source (az://..., s3://..., https://..., a path)",
    "target": "target, written in the same way",
}


def add_commands(app: typer.Typer) -> None:
    """Give `app` the command below, after its own."""
    app.command("init")(write_job_file)


def write_job_file(
    path: Annotated[
        Path, typer.Argument(metavar="[JOB.toml]", help="The file. Default: job.toml.")
    ] = Path("job.toml"),
    source: Annotated[str | None, typer.Option(metavar="URL", help=FORMS)] = None,
    target: Annotated[
        str | None, typer.Option(metavar="URL", help="Where it goes; written in the same way.")
    ] = None,
    source_endpoint: Endpoint = None,
    target_endpoint: Endpoint = None,
    target_region: Annotated[
        str | None, typer.Option(metavar="REGION", help="Of an S3 target.")
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Leave out names that match; repeatable."),
    ] = None,
    create: Create = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Ask nothing: what is not given has its default.")
    ] = False,
) -> None:
    """Write a commented job file by asking. Nothing is overwritten, and no secret is asked for.

    \b
    Examples:
      noria init genomes.toml
      noria init genomes.toml --source az://account/data --target s3://bucket/data --yes
    """
    with exit_codes(False, resumes=False):
        from noria.engine.config.new_job_file import credentials_advice, new_job_file
        from noria.engine.config.reading import job_config

        _check_place(path)
        if not yes and not sys.stdin.isatty():
            raise ConfigurationError(
                "there is no terminal to ask on: give --source, --target and --yes"
            )
        if yes and (source is None or target is None):
            raise ConfigurationError("--yes asks nothing: give --source and --target")
        answers = {
            "source": _end("source", source, source_endpoint, ask=not yes),
            "target": _end("target", target, target_endpoint, ask=not yes),
        }
        if answers["target"]["url"].startswith("s3:"):
            answers["target"]["region"] = target_region or _asked(
                "region of the target (empty: AWS_REGION's)", not yes
            )
        patterns = exclude or _asked(
            "patterns of names to leave out (quote spaces; empty: none)", not yes
        )
        answers["filter"] = {
            "exclude": _patterns(patterns) if isinstance(patterns, str) else patterns or []
        }
        if not answers["target"]["url"].startswith("file:"):
            wish = _asked("make the target if it is missing? (y, empty: no)", not yes)
            answers["target"]["create"] = create or (wish or "").lower() in ("y", "yes")
        text = new_job_file(answers)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        say_unless(False)(f"wrote {path}")
        config = job_config({name: answers[name] for name in ("source", "target")}, str(path))
        print_lines(
            [
                *credentials_advice(config),
                f"next: noria doctor {path}, noria plan {path}, noria run {path}",
            ]
        )
        raise typer.Exit(0)


def _patterns(answer: str) -> list[str]:
    """Patterns apart by white space outside of quotes. Raises ConfigurationError.

    A backslash belongs to its pattern, as does a "#".
    """
    words = shlex.shlex(answer, posix=True)
    words.whitespace_split, words.commenters, words.escape = True, "", ""
    try:
        return list(words)
    except ValueError as error:
        raise ConfigurationError(f"{answer}: a quote has no end; write it again") from error


def _check_place(path: Path) -> None:
    if path.suffix != ".toml":
        raise ConfigurationError(f"{path}: the name of a job file ends in .toml")
    if path.exists() or path.is_symlink():
        raise ConfigurationError(f"{path} is there already, and stays as it is; name another")


def _end(role: str, url: str | None, endpoint: str | None, *, ask: bool) -> dict[str, Any]:
    """The URL and endpoint of an end; what was not given is asked for."""
    from noria.engine.config.reading import end_config

    def checked(text: str) -> dict[str, Any]:
        end = end_config({"url": text, "endpoint": endpoint}, role)
        return {"url": end.url, "endpoint": end.endpoint}

    found = checked(url) if url is not None else _answer(_QUESTIONS[role], checked)
    if ask and found["endpoint"] is None and found["url"].startswith("s3:"):

        def with_endpoint(text: str) -> dict[str, Any]:
            end = end_config({"url": found["url"], "endpoint": text or None}, "endpoint")
            return {"url": end.url, "endpoint": end.endpoint}

        question = f"endpoint of the {role} (empty: Amazon's)"
        return _answer(question, with_endpoint, default="")
    return found


def _answer(
    question: str, checked: Callable[[str], dict[str, Any]], default: str | None = None
) -> dict[str, Any]:
    """Ask until the answer will do. Raises ConfigurationError after too many that will not."""
    for left in reversed(range(TRIES)):
        shown = default != ""
        answer = _prompted(question, default, show_default=shown)
        try:
            return checked(answer.strip())
        except ConfigurationError as error:
            if not left:
                raise
            say_unless(False)(error.message)
    raise AssertionError("the last answer returns or raises")


def _asked(question: str, ask: bool) -> str | None:
    if not ask:
        return None
    return _prompted(question, "", show_default=False).strip() or None


def _prompted(question: str, default: str | None, *, show_default: bool) -> str:
    """Ask once, on standard error. Ctrl-C and the end of the input are what they are elsewhere."""
    try:
        answer: str = typer.prompt(question, default=default, show_default=show_default, err=True)
    except typer.Abort:
        raise KeyboardInterrupt from None
    return answer

"""`noria sign`, `noria cosign`, `noria prove`, `noria publish-proof`: proofs that others check."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from noria.engine.cli import Directory, Json, with_options
from noria.engine.terminal.console import exit_codes, print_summary

# Commands import what they need when they run: all of it takes half a second.
if TYPE_CHECKING:
    from noria.engine.proof.signing import SigningWishes


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerOptions:
    """Who signs, and with what: of both commands that do."""

    signing_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Ed25519 private key; or a public one, whose private half ssh-agent or "
            "--signing-command has.",
        ),
    ] = None
    signing_command: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Signs with the key: bytes on its standard input, 64 bytes or base64 on its "
            "output.",
        ),
    ] = None
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of the key, in the signature. Default: user@host."),
    ] = None
    as_json: Json = False

    @property
    def is_anybody(self) -> bool:
        return any((self.signing_key, self.signing_command, self.name))

    def wishes(self, timestamp_url: str | None = None) -> SigningWishes:
        """Raises ConfigurationError if no key is named."""
        from noria.engine.proof.signing import SigningWishes
        from noria.manifests.errors import ConfigurationError

        if self.signing_key is None:
            raise ConfigurationError("name the key that signs: --signing-key FILE")
        return SigningWishes(
            key=self.signing_key,
            command=self.signing_command,
            name=self.name,
            timestamp_url=timestamp_url,
        )


def add_commands(app: typer.Typer) -> None:
    """Give `app` the commands below, after its own."""
    app.command()(with_options(sign))
    app.command()(with_options(cosign))
    app.command()(prove)
    app.command("publish-proof")(publish_proof)


def sign(
    directory: Directory,
    timestamp_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Ask the time-stamping authority there (RFC 3161) for a time stamp of what is "
            "signed, unless it has one.",
        ),
    ] = None,
    *,
    who: SignerOptions,
) -> None:
    """Sign what the receipts of a migration's latest pass say: a checkpoint of all of them.

    It proves to others that a receipt is one of them, that a name has none, and that none is
    missing. Keep it elsewhere too: `noria publish-proof`. If an authority gives no time stamp, the
    signature stands, and the exit code is 1. Without a key, --timestamp-url stamps what is signed.

    \b
    Examples:
      noria sign move-1 --signing-key mover.key --name example.eu/mover
      noria sign move-1 --timestamp-url https://tsa.example.eu
    """
    with exit_codes(who.as_json, resumes=False):
        from noria.engine.passes import whole_migration
        from noria.engine.proof.stamping import sign_and_stamp, stamp
        from noria.engine.terminal import proof_report

        migration = whole_migration(directory)
        if timestamp_url is not None and not who.is_anybody:
            summary = {"timestamp": stamp(migration, timestamp_url).summary}
            show = proof_report.print_time_stamp
        else:
            summary = sign_and_stamp(migration, who.wishes(timestamp_url))
            show = proof_report.print_checkpoint
        print_summary({**summary, "directory": str(directory)}, show, who.as_json)
        raise typer.Exit(1 if "error" in summary.get("timestamp", {}) else 0)


def cosign(directory: Directory, *, who: SignerOptions) -> None:
    """Add a second signature, with the time, to what the operator has signed.

    Everything is checked before: the tree is made again from the receipts.

    \b
    Example:
      noria cosign move-1 --signing-key auditor.key --name example.eu/auditor
    """
    with exit_codes(who.as_json, resumes=False):
        from noria.engine.passes import whole_migration
        from noria.engine.proof.signing import cosign as cosign_pass
        from noria.engine.terminal import proof_report

        signed = cosign_pass(whole_migration(directory), who.wishes())
        print_summary(signed.summary, proof_report.print_checkpoint, who.as_json)
        raise typer.Exit(0)


def prove(
    directory: Directory,
    key: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="Name below the source's prefix.")
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="PREFIX", help="What the names of files begin with."
        ),
    ] = Path("proof"),
    pass_number: Annotated[
        int | None, typer.Option("--pass", metavar="N", help="What this pass says of it, alone.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Write all leaves, for who has no Noria.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Compare all that is signed with all that is here.")
    ] = False,
    trust: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY", help="For --check: NAME+ID+KEY, or a file of such lines. Repeatable."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Prove what became of a name, or that there was none: files that anyone checks, offline.

    The file of a pass that has a receipt of the name is PREFIX-PASS.tlog-proof. Later passes, which
    have none, prove that in PREFIX-PASS.absence-proof.

    \b
    Examples:
      noria prove move-1 2026/a.parquet -o a
      noria prove move-1 --all
      noria prove move-1 --check --trust mover.vkey
    """
    with exit_codes(as_json, resumes=False):
        from noria.engine.passes import whole_migration
        from noria.engine.proof import requests
        from noria.engine.terminal import proof_report
        from noria.manifests.errors import ConfigurationError

        if [key is not None, every, check].count(True) != 1:
            raise ConfigurationError("name a KEY, or say --all or --check: one of them")
        migration = whole_migration(directory)
        if key is not None:
            found = requests.write_proofs(migration, key, output, pass_number)
            show = proof_report.print_proofs
        elif every:
            found, show = requests.write_leaves(migration), proof_report.print_leaves
        else:
            found, show = requests.check(migration, trust or []), proof_report.print_check
        print_summary(found.summary, show, as_json)
        raise typer.Exit(found.exit_code)


def publish_proof(
    directory: Directory,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where the copy is to be.")],
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="Of the store, if it is not the cloud's own.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Copy what is signed to another place, where nobody who can write here can change it.

    Checkpoints, tiles, keys, and leaves if they are there. What is there already is compared, and
    never replaced: to a checkpoint signatures are added. Repeat it after each `noria sign`.

    \b
    Example:
      noria publish-proof move-1 s3://evidence/move-1
    """
    with exit_codes(as_json, resumes=False):
        from dataclasses import asdict

        from noria.engine.config.reading import end_config
        from noria.engine.passes import whole_migration
        from noria.engine.proof.publishing import publish
        from noria.engine.terminal import proof_report

        end = end_config({"url": url, "endpoint": endpoint}, "noria publish-proof")
        found = publish(whole_migration(directory), end)
        print_summary({**asdict(found), "url": url}, proof_report.print_published, as_json)
        raise typer.Exit(0)

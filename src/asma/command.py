"""A table of subcommands: their options from dataclasses, their help, and the one that is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from .extras import extra

__all__ = ["USER_ERROR", "Command", "run_command", "usage"]

USER_ERROR = 2


class Command(NamedTuple):
    """A subcommand."""

    options: type[Any]
    run: Callable[[Any], int | None]
    """Does it; the exit status, None for 0."""
    start: Callable[[Sequence[str]], Any] | None = None
    """What the options start from, given the arguments; None for their defaults."""


def usage(program: str, commands: Mapping[str, Command | str]) -> str:
    """What there is; a string in place of a command is what is said of a group of further ones."""
    lines = [f"usage: {program} COMMAND [OPTIONS]", ""]
    for name, command in commands.items():
        said = command if isinstance(command, str) else (command.options.__doc__ or "").splitlines()[0]
        lines.append(f"  {name:<10}{said}")
    return "\n".join([*lines, "", f"{program} COMMAND --help lists a command's options."])


def run_command(program: str, commands: Mapping[str, Command | str], arguments: Sequence[str]) -> int:
    """Run the command that the first argument names, with the others; its exit status.

    Raises:
        ValueError: there is no such command.
        MissingExtraError: the package that reads options is not installed.
        SystemExit: help was asked for, or the options are wrong; both were said.
    """
    name, *rest = arguments
    command = commands.get(name)
    if not isinstance(command, Command):
        raise ValueError(f"command {name!r} is unknown, commands are {', '.join(commands)}")
    cli = extra("tyro").cli
    default = {"default": command.start(rest)} if command.start else {}
    return command.run(cli(command.options, args=rest, prog=f"{program} {name}", **default)) or 0

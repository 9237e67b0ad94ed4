"""Hooks of the docs site (mkdocs.yml): pages made from files outside docs/ and from the program."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import stas_neuro
from stas_neuro.chips import Profile, list_profiles, load_profile
from stas_neuro.cli import PROGRAM, cli

ROOT = Path(__file__).parents[1]
HOME = "README.md"
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", HOME)
"""Pages of the site that are files outside docs/."""
LINK = re.compile(r"(!?\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^)#\s:]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add pages from outside docs/, the files that pages link to, and the chips."""
    for name in [*PAGES, *_relative(ROOT.glob("examples/**/README.md"))]:
        files.append(File.generated(config, _uri(name), abs_src_path=str(ROOT / name)))
    for page in files.documentation_pages():
        for _, target, _ in LINK.findall(page.content_string):
            linked = _in_repository(page, target)
            path = ROOT / linked
            uri = _uri(linked)
            if path.is_file() and not linked.startswith("docs/") and uri not in files.src_uris:
                files.append(File.generated(config, uri, abs_src_path=str(path)))
    for name, content in {"chips": chips(), "options": commands(), "python": python()}.items():
        files.append(File.generated(config, f"reference/{name}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between pages of the site."""

    def replaced(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        linked = _in_repository(page.file, target)
        if (ROOT / linked).is_dir():
            linked = posixpath.join(linked, HOME)
        uri = _uri(linked)
        if uri not in files.src_uris:
            return match[0]
        return f"{text}({posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or '.')}{anchor})"

    return LINK.sub(replaced, markdown)


def commands() -> str:
    """Return a page with the help text of every command."""
    first = "# All options\n\nWhat `--help` prints. [Commands](../cli.md) explains files and JSON fields.\n"
    return "\n".join([first, *_helps(click.Context(cli, info_name=PROGRAM, max_content_width=100))])


def _helps(context: click.Context) -> Iterator[str]:
    yield f"## {context.command_path}\n\n```text\n{context.command.get_help(context)}\n```\n"
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            if command := context.command.get_command(context, name):
                yield from _helps(click.Context(command, parent=context, info_name=name))


def python() -> str:
    """Return a page with the docstring of every public function and class."""
    public = [getattr(stas_neuro, name) for name in sorted(stas_neuro.__all__)]
    first = "# Python\n\nMade from the docstrings. Everything here is imported from `stas_neuro`.\n"
    return "\n".join([first, *(f"::: {it.__module__}.{it.__qualname__}\n" for it in public)])


def chips() -> str:
    """Return a page with every number of every profile, and its source."""
    first = "# Chips\n\nMade from `hw_profiles/`. [Profiles](../profiles.md) explains the columns.\n"
    return "\n".join([first, *(_chip(load_profile(name)) for name in list_profiles())])


def _chip(profile: Profile) -> str:
    rows = [("entry", "value", "interval", "unit", "basis", "source"), ("---",) * 6]
    for name, entry in profile.entries().items():
        interval = f"{entry.low:g} to {entry.high:g}" if entry.low < entry.high else ""
        rows.append((name, f"{entry.value:g}", interval, entry.unit, entry.basis, entry.source))
    for name, word in profile.capabilities.items():
        rows.append((f"capabilities.{name}", word.value, "", "", word.basis, word.source))
    parts = [f"## {profile.name}", f"{profile.title}.", "\n".join(f"| {' | '.join(row)} |" for row in rows)]
    if profile.unavailable:
        parts.append("Unavailable:")
        parts.append("\n".join(f"- {name}: {reason}" for name, reason in profile.unavailable.items()))
    if profile.sources:
        parts.append("Sources:")
        parts.append("\n".join(f"- {key}: {source.citation}" for key, source in profile.sources.items()))
    return "\n\n".join([*parts, ""])


def _relative(paths: Iterable[Path]) -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for path in paths)


def _uri(name: str) -> str:
    """Return where the site has a file of the repository."""
    return "index.md" if name == HOME else name.removeprefix("docs/")


def _in_repository(file: File, target: str) -> str:
    """Return the file of the repository that a page's relative link leads to."""
    if file.src_uri == "index.md":
        here = ""
    else:
        here = posixpath.dirname(file.src_uri if (ROOT / file.src_uri).is_file() else f"docs/{file.src_uri}")
    return posixpath.normpath(posixpath.join(here, target))

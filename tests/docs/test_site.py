"""What pages say of commands, options and names is true; the rest of the site is checked by its strict build."""

import re
import sys

import pytest
from doc_pages import DOCS, ROOT

import nndl_suite

sys.path.insert(0, str(DOCS / "site"))
from commands import commands, commands_page  # noqa: E402

OPTIONS = {
    name: {word for one in command.params for word in (*one.opts, *one.secondary_opts) if word.startswith("--")}
    for name, command in commands()
}
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md"]
GLOBAL = {"--help", "--version", "--debug"}
OF_OTHERS = {
    "--install-completion",
    *("--standalone", "--nproc-per-node", "--ntasks-per-node", "--gpus-per-node", "--kill-on-bad-exit", "--nodes"),
    *("--orientation-method", "--center-method", "--auto-scale-poses", "--wheel-dir", "--no-index", "--find-links"),
    *("--strict", "--force-reinstall"),
}
"""Options of torchrun, srun, nerfstudio, pip and mkdocs."""


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_of_every_command_is_on_its_page(name):
    page = commands_page()
    start = page.index(f"\n## {name}\n")
    section = page[start : page.find("\n## ", start + 1)]
    for option in OPTIONS[name] - {"--help"}:
        assert f"`{option}`" in section, option


def test_the_page_knows_all_commands():
    assert {f"nndl-suite {name}" for name in ("demo", "ssl pretrain", "nerf train", "data index")} <= set(OPTIONS)
    assert all(command.help for _, command in commands())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_that_pages_name_exist(page):
    text = page.read_text()
    known = set().union(*OPTIONS.values()) | GLOBAL | OF_OTHERS
    if page.name not in ("results.md", "reliability.md"):  # which name the benchmarks' own
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= known
    for line in re.findall(r"^(?:\$ )?(nndl-suite [^\n#]+)", text, re.MULTILINE):
        name = max((name for name in OPTIONS if line.startswith(f"{name} ")), key=len, default=None)
        assert name or set(line.split()[1:]) <= GLOBAL or line.split()[1:] == ["demo"], line
        used = {word.partition("=")[0] for word in line.split() if word.startswith("--")}
        assert used <= OPTIONS.get(name or "nndl-suite demo", set()) | GLOBAL, line


def test_every_public_name_is_described():
    described = (DOCS / "reference/api.md").read_text()
    assert [name for name in nndl_suite.__all__ if f"::: nndl_suite.{name}\n" not in described] == []


def test_every_page_can_be_found():
    navigation = (DOCS / "site/mkdocs.yml").read_text() + (DOCS / "site/hooks.py").read_text()
    assert [page for page in PAGES[:-1] if str(page.relative_to(DOCS)) not in navigation] == []


def test_the_readme_sets_up_by_two_commands():
    readme = (ROOT / "README.md").read_text()
    blocks = re.findall(r"^```\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    assert blocks[:2] == ["pip install . && nndl-suite demo\n", 'pip install -e ".[dev]" && pytest\n']

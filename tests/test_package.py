import subprocess
import sys

import pytest

import nndl_suite


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_loads_nothing_heavy():
    out = python("import sys, nndl_suite; print({'torch', 'numpy', 'rich', 'typer', 'numba'} & set(sys.modules))")
    assert out.strip() == "set()"


def test_import_runs_two_files_of_the_package_and_takes_no_time():
    out = python(
        "import importlib.util, sys, time, typing, importlib.metadata\n"
        "start = time.process_time()\n"
        "import nndl_suite\n"
        "print(time.process_time() - start)\n"
        "print(*sorted(name for name in sys.modules if name.startswith('nndl_suite')))"
    )
    seconds, loaded = out.splitlines()
    assert loaded.split() == ["nndl_suite", "nndl_suite.errors"]
    assert float(seconds) < 0.2  # processor time, so that a busy machine does not count


@pytest.mark.parametrize("name", nndl_suite.__all__)
def test_every_public_name_is_there_and_documented(name):
    value = getattr(nndl_suite, name)
    assert value.__name__ == name
    assert value.__doc__
    assert value.__module__.startswith("nndl_suite.")


def test_a_wrong_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'LinearProb'"):
        _ = nndl_suite.LinearProb


def test_no_other_module_is_imported_by_the_command_line_for_help():
    heavy = "{'torch', 'numpy', 'numba', 'pycolmap', 'timm', 'matplotlib', 'scipy', 'optuna'}"
    out = python(
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from nndl_suite.cli.app import app\n"
        "commands = [], ['ssl'], ['ssl', 'pretrain'], ['compare'], ['tune'], ['nerf', 'train'], ['demo'], ['report']\n"
        "for words in commands:\n"
        "    assert CliRunner().invoke(app, [*words, '--help']).exit_code == 0, words\n"
        f"print({heavy} & set(sys.modules))"
    )
    assert out.strip() == "set()"

"""Which modules of this package a module imports, directly or through other modules, read from the source files.

A stage's results depend on these files.  Their digests are part of the hash by which an interrupted training run finds
its checkpoints, and a test compares the files with the dependencies in dvc.yaml.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def import_closure(module: Path, without: frozenset[str]) -> set[Path]:
    """The files of the package that run when `module` is imported, including `module`.

    Leaves out imports under `if TYPE_CHECKING`, and every `__init__.py` that holds only a docstring.

    Args:
        module: a file of the package.
        without: names of rooms (folders and files directly in the package) that are left out with all they import.
    """
    closure: set[Path] = set()
    unread = [module.resolve()]  # resolved like PACKAGE, since the working folder may link to the code
    while unread:
        file = unread.pop()
        if file not in closure and file.relative_to(PACKAGE).parts[0] not in without:
            closure.add(file)
            unread += _imports(file)
    return {file for file in closure if not _is_docstring_alone(file)}


def _imports(file: Path) -> Iterator[Path]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    branches = [node for node in ast.walk(tree) if isinstance(node, ast.If)]
    for_types = [branch for branch in branches if ast.unparse(branch.test) == "TYPE_CHECKING"]
    skipped = {id(node) for branch in for_types for node in ast.walk(branch)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or id(node) in skipped or node.module is None:
            continue
        package, *parts = node.module.split(".")
        if package == PACKAGE.name:
            for name in node.names:
                dotted = [*parts, name.name]
                files = (_file(dotted[:length]) for length in range(1, len(dotted) + 1))
                yield from (file for file in files if file)


def _file(dotted: list[str]) -> Path | None:
    """The file of a module of the package; None if no module has this name."""
    path = PACKAGE.joinpath(*dotted)
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _is_docstring_alone(file: Path) -> bool:
    return file.name == "__init__.py" and len(ast.parse(file.read_text(encoding="utf-8")).body) <= 1

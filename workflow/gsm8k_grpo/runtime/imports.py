"""Which of the package's own modules a module imports, directly and through others, read from the source.

A stage's results depend on these files: the resume hash of a training run holds their digests, and a test compares
them with the dependencies in dvc.yaml.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def import_closure(module: Path, without: frozenset[str]) -> set[Path]:
    """The files of the package that run when `module` is imported, itself among them.

    An `__init__.py` that holds its docstring alone is not among them, nor is what stands under `if TYPE_CHECKING`.

    Args:
        module: a file of the package.
        without: rooms (folders of the package) that are not followed.
    """
    found: set[Path] = set()
    unread = [module]
    while unread:
        file = unread.pop()
        if file not in found and file.relative_to(PACKAGE).parts[0] not in without:
            found.add(file)
            unread += _imports(file)
    return {file for file in found if not _is_docstring_alone(file)}


def _imports(file: Path) -> Iterator[Path]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    typing = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    skipped = {id(node) for branch in typing for node in ast.walk(branch)}
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
    """The file of a module of the package, None where the name is no module."""
    path = PACKAGE.joinpath(*dotted)
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _is_docstring_alone(file: Path) -> bool:
    return file.name == "__init__.py" and len(ast.parse(file.read_text(encoding="utf-8")).body) <= 1

"""Write the Python of the messages that ``proto/`` declares: `python generate_messages.py FOLDER`.

`make proto` runs it, and a test that compares what comes out with what is kept. Errors are told in messages of
``google.rpc``, whose declarations a package carries.
"""

from __future__ import annotations

import shutil
import sys
from importlib.metadata import files
from importlib.util import find_spec
from pathlib import Path

from grpc_tools import protoc

PROTO = Path(__file__).parents[2] / "proto"
_OF_A_PACKAGE = "google/rpc/error_details.proto"


def generate(folder: Path) -> None:
    """Write the messages into a folder, which is emptied first.

    Raises:
        SystemExit: if a declaration is wrong; what is wrong was printed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    carried = next(file for file in files("googleapis-common-protos") or () if str(file) == _OF_A_PACKAGE)
    package = Path(str(carried.locate())).parents[2]
    well_known = Path(find_spec("grpc_tools").origin or "").parent / "_proto"  # type: ignore[union-attr]
    plugin = Path(sys.executable).with_name("protoc-gen-py")
    declared = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    arguments = [f"-I{PROTO}", f"-I{package}", f"-I{well_known}", f"--plugin=protoc-gen-py={plugin}"]
    status = protoc.main(["protoc", *arguments, f"--py_out={folder}", *declared, _OF_A_PACKAGE])
    if status:
        raise SystemExit(status)


if __name__ == "__main__":
    generate(Path(sys.argv[1]))

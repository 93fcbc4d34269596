"""Mend what DVC left cut off: it writes its lock files in place, so that a kill can come between.

    python -I tools/mend.py FILE...    tools/dvc calls it with the files that do not end as they should

A dvc.lock loses the stages that are not all there; the next `dvc repro` finds their results in DVC's run cache. An
rwlock, in which DVC notes who reads and writes what, is removed: whoever wrote it is gone.
"""

import re
import sys
from pathlib import Path

import zc.lockfile


def main(*names: str) -> None:
    try:
        lock = zc.lockfile.LockFile(".dvc/tmp/lock")  # a DVC that writes one of them now holds it
    except zc.lockfile.LockError:
        return
    try:
        for path in map(Path, names):
            text = path.read_text(encoding="utf-8")  # again: it may have been written whole in between
            if path.name == "rwlock":
                if not text.endswith("}"):
                    path.unlink()
            elif not text.endswith("\n"):
                keep_whole_stages(path, text)
    finally:
        lock.close()


def keep_whole_stages(path: Path, text: str) -> None:
    """Drop the last stage of a lock file, which is cut off; the file too where there is no other."""
    *kept, last = re.split(r"^(?=  \S)", text, flags=re.MULTILINE)
    if len(kept) > 1:
        path.write_text("".join(kept), encoding="utf-8")
    else:
        path.unlink()
    where = f"within {last.strip().partition(':')[0]}" if kept else "before its first stage"
    sys.stderr.write(f"{path} was cut off {where}, as DVC was killed: what it held from there on is dropped\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

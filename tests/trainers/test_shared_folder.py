"""What a folder that processes share must give, tried on one whose file system lacks it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trainers.files import missing_guarantee

ROOT = Path(__file__).parents[2]
LACKING = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static int lacks(const char *what) { const char *set = getenv("LACKS"); return set && !strcmp(set, what); }

int rename(const char *from, const char *to) {
    int (*real)(const char *, const char *) = dlsym(RTLD_NEXT, "rename");
    if (lacks("rename") && !access(to, F_OK)) { errno = EEXIST; return -1; }
    return real(from, to);
}
int open64(const char *path, int flags, ...) {
    va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest);
    int (*real)(const char *, int, mode_t) = dlsym(RTLD_NEXT, "open64");
    return real(path, lacks("exclusive") ? flags & ~O_EXCL : flags, mode);
}
int flock(int file, int how) {
    int (*real)(int, int) = dlsym(RTLD_NEXT, "flock");
    if (lacks("locks")) { errno = ENOLCK; return -1; }
    return lacks("locks of others") ? 0 : real(file, how);
}
int fsync(int file) {
    int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
    if (lacks("fsync")) { errno = EINVAL; return -1; }
    return real(file);
}
"""


def test_a_local_folder_gives_all_and_nothing_is_left_there(tmp_path: Path) -> None:
    assert missing_guarantee(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def lacking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if (compiler := shutil.which("cc")) is None or sys.platform != "linux":
        pytest.skip("needs a C compiler and Linux")
    folder = tmp_path_factory.mktemp("lacking")
    (folder / "lacking.c").write_text(LACKING)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", "lacking.so", "lacking.c", "-ldl"], cwd=folder, check=True)
    return folder / "lacking.so"


@pytest.mark.parametrize(
    ("lacks", "told"),
    [
        ("nothing", "None"),
        ("rename", "a rename that replaces its target"),
        ("exclusive", "creation that fails where a file is there"),
        ("locks", "locks (flock)"),
        ("locks of others", "locks (flock) that another opener sees"),
        ("fsync", "fsync"),
    ],
)
def test_what_the_file_system_lacks_is_named(lacking: Path, lacks: str, told: str, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from trainers.files import missing_guarantee;"
        "print(missing_guarantee(Path(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": str(lacking), "LACKS": lacks},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"{told}\n", "")


@pytest.mark.parametrize("command", ["worker", "trainer"])
def test_a_start_on_such_a_folder_is_refused_in_one_line(lacking: Path, command: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "streams.cli", command, "--data-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": str(lacking), "LACKS": "locks"},
        capture_output=True,
        text=True,
        check=False,
    )
    [line] = [line for line in done.stderr.splitlines() if "lacks" in line]
    assert line == (
        f"error: the data directory {tmp_path} lacks locks (flock), and what shares it would lose or repeat work; "
        "put it on a file system that has it, as NFS 4 or a local disk do (docs/deployment.md)"
    )
    assert done.returncode == 1

"""A file that is open elsewhere: the error says by which process."""

import subprocess
import sys
import textwrap

import pytest

import tieralloc as ta

SERVE = """
    import sys
    import tieralloc as ta
    with ta.TieredStore(sys.argv[1], mode=sys.argv[2], fast_rows=8) as store:
        print("open", flush=True)
        sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("theirs", "ours", "action"),
    [("r+", "r", "writes"), ("r", "r+", "reads"), ("a", "w", "writes")],
)
def test_error_names_the_process(closed_path, theirs, ours, action):
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SERVE), str(closed_path), theirs],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(BlockingIOError) as caught:
            ta.TieredStore(closed_path, mode=ours, fast_rows=8)
        assert f"process {other.pid} (" in str(caught.value)
        assert f") {action} it; close that one first" in str(caught.value)
        assert caught.value.filename == str(closed_path)
    ta.TieredStore(closed_path, mode=ours, fast_rows=8).close()

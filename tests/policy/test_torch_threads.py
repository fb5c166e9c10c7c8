"""torch on one thread: the number of threads in the process, if the main thread uses four."""

import textwrap

import pytest
from support import run_python

pytest.importorskip("torch")

SETUP = """
    import os
    import threading
    import time

    import torch

    from tieralloc._common.torch import keep_one_thread, on_one_thread, one_thread

    torch.set_num_threads(4)
    weights = torch.rand(512, 512)

    def forward():
        return torch.tanh(weights @ weights).sum()

    def count_tasks():
        time.sleep(0.1)  # joined threads leave the list a little later
        return len(os.listdir("/proc/self/task"))

    def in_thread(function):
        results = []
        thread = threading.Thread(target=lambda: results.append(function()))
        thread.start()
        thread.join()
        return results[0]

    def count_new_tasks(begin, call):
        def body():
            begin()
            before = count_tasks()
            for _ in range(100):
                call()
            return count_tasks() - before

        return in_thread(body)
"""


def measure(code):
    done = run_python(textwrap.dedent(SETUP) + textwrap.dedent(code))
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_background_thread_by_torch_only_wakes_workers():
    """The baseline: torch discards a number of threads that is set too early."""
    code = """
        def begin():
            torch.set_num_threads(1)
            in_thread(lambda: torch.set_num_threads(4))  # as the main thread would
        print(count_new_tasks(begin, forward))
    """
    assert measure(code) == ["3"]


def test_background_thread_on_one_thread_wakes_no_workers():
    assert measure("print(count_new_tasks(keep_one_thread, forward))") == ["0"]
    code = "print(count_new_tasks(lambda: None, on_one_thread(forward)))"
    assert measure(code) == ["0"]


def test_main_thread_in_one_thread_wakes_no_workers():
    code = """
        before = count_tasks()
        with one_thread():
            forward()
            in_scope = count_tasks() - before
        alone = on_one_thread(forward)
        alone()
        after = count_tasks() - before
        forward()
        print(in_scope, after, count_tasks() - before, torch.get_num_threads())
    """
    assert measure(code) == ["0", "0", "3", "4"]


@pytest.mark.parametrize("call", ["keep_one_thread()", "on_one_thread(forward)()"])
def test_one_thread_leaves_other_threads_unchanged(call):
    code = f"""
        go, done = threading.Event(), threading.Event()
        old = []

        def wait():
            before = torch.get_num_threads()
            go.set()
            done.wait()
            old.extend([before, torch.get_num_threads()])

        waiting = threading.Thread(target=wait)
        waiting.start()
        go.wait()

        def body():
            {call}
            return torch.get_num_threads()

        own = in_thread(body)
        done.set()
        waiting.join()
        print(own, *old, torch.get_num_threads(), in_thread(torch.get_num_threads))
    """
    assert measure(code) == ["1", "4", "4", "4", "4"]


def test_one_thread_keeps_number_for_new_threads():
    code = """
        def body():
            with one_thread():
                in_thread(lambda: torch.set_num_threads(2))
            return torch.get_num_threads()

        print(in_thread(body), in_thread(torch.get_num_threads))
    """
    assert measure(code) == ["4", "2"]

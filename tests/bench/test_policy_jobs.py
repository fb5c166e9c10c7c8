"""Jobs in processes of their own: each comes to a result or a reason, whatever it does."""

import multiprocessing
import os
import time

import pytest

from bench.policies.jobs import Done, Failed, Job, State, run_jobs


def square(number, tell):
    return number * number


def raise_error(tell):
    raise ValueError("no such thing")


def crash(tell):
    os.abort()


def tell_twice(tell):
    tell("begun")
    time.sleep(0.6)
    tell("half")


def sleep_long(tell):
    tell("asleep")
    time.sleep(60)


def outcomes(jobs, processes):
    return {
        job.name: event for job, event in run_jobs(jobs, processes) if not isinstance(event, State)
    }


@pytest.mark.parametrize("processes", [1, 2])
def test_each_job_comes_to_its_own_result(processes):
    jobs = [Job(f"square of {number}", square, (number,)) for number in range(4)]
    found = outcomes(jobs, processes)
    assert found == {f"square of {number}": Done(number * number) for number in range(4)}


def test_what_fails_says_why_and_takes_no_other_job_with_it():
    jobs = [Job("raises", raise_error, ()), Job("crashes", crash, ()), Job("works", square, (3,))]
    found = outcomes(jobs, 2)
    assert found["raises"] == Failed("ValueError: no such thing")
    assert isinstance(found["crashes"], Failed)
    assert "exit code -6" in found["crashes"].reason
    assert found["works"] == Done(9)


def test_jobs_tell_how_they_go():
    events = [event for _, event in run_jobs([Job("tells", tell_twice, ())], 1)]
    assert events == [State("begun"), State("half"), Done(None)]


def test_no_process_is_left_when_nobody_waits_any_more():
    running = run_jobs([Job("sleeps", sleep_long, ())] * 2, 2)
    assert next(running)[1] == State("asleep")
    running.close()
    assert not multiprocessing.active_children()

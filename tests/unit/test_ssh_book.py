"""The book of the SSH executor: who goes where, and what an answer means."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snakemake_executor_plugin_ssh.admission import Need, Queue, Room
from snakemake_executor_plugin_ssh.attempts import Attempt, Journal, NoJournal
from snakemake_executor_plugin_ssh.book import Book

BIG = {"cores": 8, "mem_mb": 16000, "gpu": 2}
SMALL = {"cores": 2, "mem_mb": 4000, "gpu": 0}


def book_of(limit=100.0, journal=None, **sizes) -> Book:
    book = Book(list(sizes), limit, journal or NoJournal(), 0.0)
    for name, size in sizes.items():
        book.opened(name, size, 0.0)
    return book


def answer(book: Book, host: str, now: float = 1.0, launched: str | None = None, **jobs) -> dict:
    """The host carries out what it is asked; `jobs`: status of a job by its name (default: running)."""
    request = book.request(host)
    names = {attempt.token: attempt.job for attempt in book.hosts[host].attempts.values()}
    reply = {
        "launched": {attempt.token: launched for attempt in request["launch"]},
        "jobs": {token: jobs.get(names[token], {"state": "running"}) for token in request["watch"]},
    }
    book.replied(host, request, reply, now)
    return request


def kinds(book: Book) -> list[tuple[str, str]]:
    found, book.events = [(event.kind, event.job) for event in book.events], []
    return found


def test_a_job_goes_where_it_fits_and_waits_where_nothing_is_free():
    book = book_of(small=SMALL, big=BIG)
    book.submit("gpu", Need(cores=1, gpu=2))
    book.submit("more gpu", Need(cores=1, gpu=1))
    book.submit("pinned", Need(host="small"))
    assert [a.job for a in book.request("big")["launch"]] == ["gpu"] and [a.job for a in book.request("small")["launch"]] == ["pinned"]
    assert book.waiting == 1
    answer(book, "big", gpu={"state": "ended", "rc": 0})
    assert [a.job for a in book.request("big")["launch"]] == ["more gpu"] and book.request("big")["launch"][0].gpus == (0,)


def test_jobs_without_gpu_leave_the_gpu_host_free():
    book = book_of(gpu=BIG, plain=SMALL)
    book.submit("a", Need())
    assert book.request("plain")["launch"]


@pytest.mark.parametrize(
    "need, says",
    [
        (Need(cores=99), "small has 2 cores, 4000 MB"),
        (Need(host="elsewhere"), "elsewhere is not among the hosts"),
        (Need(gpu=1), "asks for 1 cores, 0 MB, 1 GPUs"),
    ],
)
def test_a_job_that_fits_nowhere_is_told_why(need, says):
    book = book_of(small=SMALL)
    book.submit("job", need)
    book.tick(1.0)
    (event,) = book.events
    assert event.kind == "impossible" and says in event.text and book.waiting == 0


def test_a_refused_host_says_its_reason_to_the_jobs_that_need_it():
    book = Book(["h"], 100.0, NoJournal(), 0.0)
    book.submit("job", Need())
    book.tick(1.0)
    assert not book.events
    book.refused("h", "its key is wrong")
    book.tick(2.0)
    assert "its key is wrong" in book.events[0].text


def test_unknown_is_not_dead_and_the_late_answer_counts_once():
    book = book_of(a=SMALL)
    book.submit("job", Need())
    answer(book, "a", 1.0)
    book.lost("a", "no answer")
    book.tick(90.0)
    assert kinds(book) == [("started", "job")]
    book.opened("a", SMALL, 95.0)
    done = {"state": "ended", "rc": 0}
    request = answer(book, "a", 96.0, job=done)
    assert kinds(book) == [("finished", "job")]
    book.replied("a", request, {"launched": {}, "jobs": dict.fromkeys(request["watch"], done)}, 97.0)
    assert kinds(book) == []


def test_after_the_limit_it_starts_elsewhere_and_the_old_attempt_counts_for_nothing():
    book = book_of(a=SMALL, b=SMALL)
    book.submit("job", Need(cores=2))
    (old,) = book.request("a")["launch"]
    answer(book, "a", 1.0)
    book.lost("a", "no answer")
    book.replied("b", book.request("b"), {"launched": {}, "jobs": {}}, 100.9)
    book.tick(100.9)
    assert kinds(book) == [("started", "job")]
    book.tick(101.0)
    assert kinds(book) == [("lost", "job")]
    (new,) = book.request("b")["launch"]
    assert new.token != old.token
    book.opened("a", SMALL, 102.0)
    request = book.request("a")
    assert request["cancel"] == [old.token] and not request["launch"]
    book.replied("a", request, {"launched": {}, "jobs": {old.token: {"state": "ended", "rc": 0}}}, 103.0)
    assert kinds(book) == [] and book.request("a")["forget"] == [old.token]
    answer(book, "b", 104.0, job={"state": "ended", "rc": 0})
    assert kinds(book) == [("started", "job"), ("finished", "job")]


def test_an_answer_lost_on_the_way_does_not_start_a_job_twice():
    book = book_of(a=SMALL)
    book.submit("job", Need())
    (first,) = book.request("a")["launch"]
    book.lost("a", "no answer")
    book.opened("a", SMALL, 5.0)
    (again,) = book.request("a")["launch"]
    assert again.token == first.token


def test_a_host_that_lost_three_times_is_not_asked_for_ever():
    book = book_of(limit=10.0, a=SMALL, b=SMALL, c=SMALL)
    book.submit("job", Need())
    now = 0.0
    for _ in range(3):
        (host,) = [name for name in book.hosts if book.request(name)["launch"]]
        answer(book, host, now)
        for name in book.hosts:
            book.lost(name, "gone") if name == host else book.replied(name, book.request(name), {"launched": {}, "jobs": {}}, now + 9)
        now += 10.0
        book.tick(now)
    assert kinds(book)[-1] == ("impossible", "job")


def test_a_host_that_cannot_start_jobs_rests():
    book = book_of(a=SMALL)
    book.submit("job", Need())
    answer(book, "a", 1.0, launched="No space left on device")
    (failed,) = book.events
    assert failed.kind == "failed" and "No space left" in failed.text
    book.submit("next", Need())
    assert not book.request("a")["launch"]
    book.tick(62.0)
    assert book.request("a")["launch"]


def test_another_life_of_the_controller(tmp_path):
    """What ran goes on where its spec is the same; where it is not, it has to end before the job may start."""
    journal = Journal(tmp_path)
    first = book_of(journal=journal, a=SMALL)
    first.submit("same", Need(), "spec")
    first.submit("changed", Need(), "old spec")
    answer(first, "a")
    second = Book(["a"], 100.0, journal, 0.0)
    left = {attempt.job: attempt for attempt in journal.read()}
    assert set(left) == {"same", "changed"}
    for attempt in left.values():
        second.keep(attempt)
    second.opened("a", SMALL, 1.0)
    assert second.hosts["a"].room.used_cores == 2
    assert second.submit("same", Need(), "spec", "", [left["same"]]) is left["same"]
    assert second.submit("changed", Need(), "new spec", "", [left["changed"]]) is None
    request = second.request("a")
    assert request["cancel"] == [left["changed"].token] and not request["launch"]
    second.replied("a", request, {"launched": {}, "jobs": {left["changed"].token: {"state": "ended", "rc": None}}}, 2.0)
    (fresh,) = second.request("a")["launch"]
    assert fresh.job == "changed" and fresh.spec == "new spec"
    answer(second, "a", 3.0, same={"state": "ended", "rc": 0})
    assert ("finished", "same") in kinds(second)


def test_an_ended_attempt_waits_for_its_job_to_be_asked_for():
    book = book_of(a=SMALL)
    attempt = Attempt("t", "job", "a", Need(), "spec", stage="kept")
    book.keep(attempt)
    answer(book, "a", job={"state": "ended", "rc": 0})
    assert kinds(book) == [] and book.hosts["a"].room.used_cores == 0
    book.submit("job", Need(), "spec", "", [attempt])
    answer(book, "a", job={"state": "ended", "rc": 0})
    assert kinds(book) == [("finished", "job")] and book.hosts["a"].room.used_cores == 0


def test_strays_are_ended():
    book = book_of(a=SMALL)
    book.stray("a", "nobody knows")
    assert book.request("a")["cancel"] == ["nobody knows"]


def test_no_record_no_start(tmp_path):
    class Full(NoJournal):
        def write(self, attempt):
            raise OSError(28, "No space left on device", "journal")

    book = book_of(journal=Full(), a=SMALL)
    book.submit("job", Need())
    (event,) = book.events
    assert event.kind == "impossible" and "No space left" in event.text and not book.request("a")["launch"]


needs = st.builds(Need, cores=st.integers(1, 6), mem_mb=st.integers(0, 12000), gpu=st.integers(0, 2))


@settings(max_examples=60)
@given(st.lists(needs, min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_no_host_is_ever_given_more_than_it_has_and_all_that_fits_is_done(asked, random):
    book = book_of(a=SMALL, b=BIG, c={"cores": 6, "mem_mb": 12000, "gpu": 2})
    for number, need in enumerate(asked):
        book.submit(f"job{number}", need)
    done = []
    for step in range(400):
        for name, host in book.hosts.items():
            room = host.room
            given = list(host.attempts.values())
            assert sum(a.need.cores for a in given) == room.used_cores <= room.cores
            assert sum(a.need.mem_mb for a in given) == room.used_mem_mb <= room.mem_mb
            numbers = [gpu for a in given for gpu in a.gpus]
            assert len(set(numbers)) == len(numbers) == sum(a.need.gpu for a in given) <= room.gpu
            ended = {a.job: {"state": "ended", "rc": 0} for a in given if random.random() < 0.5}
            answer(book, name, float(step), **ended)
        done += [job for kind, job in kinds(book) if kind == "finished"]
        if len(done) == len(asked):
            break
    assert sorted(done) == sorted(f"job{number}" for number in range(len(asked)))


def test_a_big_job_is_not_overtaken_for_ever():
    queue, room = Queue(), Room("h", 4, 1000, 0, open=True)
    queue.add(Need(4), "big")
    running = []
    for number in range(100):
        queue.add(Need(1), f"small{number}")
    room.take(Need(1))
    started = []
    for _ in range(200):
        for need in queue.needs():
            while found := queue.next_for(need, [room]):
                room.take(need)
                started.append(found[0])
                running.append(need)
        if "big" in started:
            break
        room.give_back(running.pop(0) if running else Need(1), ())
    assert "big" in started and started.index("big") < 60

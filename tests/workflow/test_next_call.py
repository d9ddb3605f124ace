"""After a call that ended early, however it did, the next `snakemake` goes on: what there is of a report never hides what is missing."""

import json
import os
import signal

import pytest
from background_call import LONGEST, RUN, Call
from workflow_runs import summary

TOY = ("suites=aimedres", "only=als-fold1", "folds=2", "subset_size=200")
TRAINED = f"results/{RUN.replace('/', '/runs/')}/train.json"


class Whole(Call):
    """The whole workflow, with the report at its end."""

    def __init__(self, folder):
        super().__init__(folder, "long.json", TOY)

    def set(self, lr: float) -> None:
        model = {"epochs": 800, "lr": lr, "batch_size": 16, "checkpoint": {"every_epochs": 20}}
        (self.folder / "long.json").write_text(json.dumps({"aimedres": {"models": {"als": model}}}))

    def trained_at(self) -> float:
        return json.loads((self.folder / TRAINED).read_text())["meta_info"]["settings"]["lr"]

    def page(self) -> str:
        return (self.folder / "results/report/index.html").read_text()

    def nothing_to_do(self) -> bool:
        return "Nothing to do: every result is there" in self.again("-n").stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


@pytest.fixture
def whole(folder):
    call = Whole(folder)
    yield call
    call.clean_up()


def test_what_a_first_call_left_is_not_taken_for_the_whole(whole):
    whole.set(0.001)
    whole.start()
    whole.wait_past(0)
    whole.press_ctrl_c()
    assert whole.process.wait(LONGEST) == 1
    assert "Partial report." in whole.page() and not whole.nothing_to_do()
    done = whole.again()
    assert done.returncode == 0 and whole.trained_at() == 0.001
    assert "Partial report." not in whole.page() and whole.nothing_to_do()


@pytest.mark.parametrize(("how", "lr"), [("ctrl-c", 0.002), ("term", 0.003), ("kill", 0.004), ("trainer", 0.005), ("both", 0.006)])
def test_figures_of_an_earlier_training_are_not_taken_for_those_of_one_that_was_cut_short(whole, how, lr):
    if not (whole.folder / TRAINED).exists():
        whole.set(0.001)
        assert whole.again().returncode == 0
    before = whole.trained_at()
    whole.set(lr)
    whole.start("--retries", "0")
    whole.wait_past(0)
    (trainer,) = whole.trainers()
    if how == "ctrl-c":
        whole.press_ctrl_c()
    elif how == "term":
        whole.process.terminate()
    elif how == "kill":
        whole.process.kill()
    else:
        os.kill(trainer, signal.SIGKILL)  # a training that fails, with or without its snakemake
    if how == "both":
        whole.wait_until(lambda: "failed" in [j["state"] for j in summary(whole.folder)["jobs"]], "the failure to be told")
        whole.process.kill()
    whole.process.wait(LONGEST)
    whole.nobody_left()
    assert not whole.nothing_to_do()
    done = whole.again()
    assert done.returncode == 0, done.stdout + done.stderr
    assert whole.trained_at() == lr != before and whole.nothing_to_do()

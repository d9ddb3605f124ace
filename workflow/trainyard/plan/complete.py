"""Machines with every figure given: what is null in machines.yaml is this machine's own, or what the recommender says."""

from trainyard.config.machines import Machine
from trainyard.host.recommend import recommend
from trainyard.host.resources import memory, usable_cores
from trainyard.plan.problem import Task


def completed(machine: Machine, tasks: list[Task]) -> Machine:
    """The machine with cores, memory_gb and slots as numbers."""
    cores = machine.cores or max(1, int(usable_cores()))
    gigabytes = machine.memory_gb or memory().total / 1024
    slots = machine.slots or recommended(cores, gigabytes, machine.gpus, tasks)
    return machine.model_copy(update={"cores": cores, "memory_gb": gigabytes, "slots": slots})


def recommended(cores: int, gigabytes: float, gpus: int, tasks: list[Task]) -> int:
    """Runs at once for the largest of the tasks; GPUs bound it only where a task asks for one."""
    trainings = [t for t in tasks if not t.light]
    largest = max((t.memory_gb for t in trainings), default=0.0)
    asked = max((t.gpus for t in trainings), default=0)
    threads = max((t.threads for t in trainings), default=1)
    return recommend(cores, gigabytes, gpus if asked else 0, largest or 1.0, threads).runs

"""Patient tables: the demo data of aimedres. One CSV, patients.csv, a row a visit.

What decides the diagnosis is the same in all four: two main effects, an interaction of two values, a U-shaped effect,
one whose sign depends on a category, and something of the patient's own that no column holds. So a linear model
misses most of it **by construction**: that the network wins here says nothing about real patients.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainyard.data.files import replacing


@dataclass(frozen=True)
class Disease:
    """Columns of a table. `numeric`: (name, mean, deviation, decimals, log-normal), the first six in the order of their
    effects: main +, main − (the one ordered more often for the ill), interacting two, U-shaped, sign by category."""

    numeric: tuple[tuple[str, float, float, int, bool], ...]
    categories: tuple[tuple[str, tuple[str, str, str]], ...]
    classes: tuple[str, str]


SEX = ("sex", ("female", "male", "not stated"))
DISEASES = {
    "als": Disease(
        (
            ("neurofilament_light_pg_ml", 60.0, 0.55, 1, True), ("alsfrs_r_slope", -0.8, 0.45, 2, False),
            ("fvc_percent", 82.0, 16.0, 1, False), ("months_since_onset", 18.0, 0.5, 1, True),
            ("bmi", 24.5, 3.6, 1, False), ("age", 59.0, 11.0, 0, False),
            ("alsfrs_r_total", 38.0, 5.5, 0, False), ("creatinine_umol_l", 68.0, 14.0, 0, False),
            ("grip_strength_kg", 24.0, 8.0, 1, False), ("ck_u_l", 190.0, 0.5, 0, True),
        ),
        (("onset_site", ("bulbar", "limb", "respiratory")), ("riluzole", ("no", "paused", "yes")), SEX),
        ("slow", "fast"),
    ),
    "alzheimers": Disease(
        (
            ("csf_tau_pg_ml", 320.0, 0.45, 0, True), ("mmse", 25.5, 3.2, 0, False),
            ("hippocampus_ml", 6.6, 0.8, 2, False), ("education_years", 12.5, 3.4, 0, False),
            ("sleep_hours", 7.0, 1.2, 1, False), ("age", 74.0, 7.5, 0, False),
            ("csf_abeta42_pg_ml", 720.0, 210.0, 0, False), ("clock_drawing", 7.6, 1.6, 0, False),
            ("systolic_mmhg", 136.0, 16.0, 0, False), ("homocysteine_umol_l", 12.5, 0.3, 1, True),
        ),
        (("apoe", ("e2/e3", "e3/e3", "e3/e4")), ("living", ("alone", "family", "home")), SEX),
        ("no dementia", "dementia"),
    ),
    "parkinsons": Disease(
        (
            ("jitter_percent", 0.6, 0.5, 5, True), ("hnr_db", 22.0, 4.2, 2, False),
            ("shimmer_percent", 3.0, 0.45, 4, True), ("ppe", 0.2, 0.08, 4, False),
            ("fo_hz", 152.0, 38.0, 2, False), ("tapping_per_10s", 52.0, 9.0, 0, False),
            ("dfa", 0.72, 0.055, 4, False), ("rpde", 0.5, 0.1, 4, False),
            ("age", 65.0, 9.0, 0, False), ("smell_score", 9.2, 2.2, 0, False),
        ),
        (("dominant_hand", ("both", "left", "right")), ("tremor_in_family", ("no", "unknown", "yes")), SEX),
        ("healthy", "parkinsons"),
    ),
    "cardiovascular": Disease(
        (
            ("ldl_cholesterol_mg_dl", 132.0, 34.0, 0, False), ("hdl_cholesterol_mg_dl", 52.0, 13.0, 0, False),
            ("systolic_mmhg", 134.0, 18.0, 0, False), ("hba1c_percent", 5.9, 0.14, 1, True),
            ("bmi", 27.2, 4.4, 1, False), ("resting_heart_rate", 70.0, 11.0, 0, False),
            ("triglycerides_mg_dl", 140.0, 0.5, 0, True), ("crp_mg_l", 2.1, 0.7, 2, True),
            ("age", 61.0, 10.5, 0, False), ("steps_per_day", 6200.0, 0.45, 0, True),
        ),
        (("chest_pain", ("atypical", "none", "typical")), ("smoking", ("never", "former", "current")), SEX),
        ("no event", "event"),
    ),
}  # fmt: skip

# Scores with a ceiling; everything has a floor at zero but what is meant to fall.
CEILINGS = {"alsfrs_r_total": 48, "mmse": 30, "clock_drawing": 10, "smell_score": 12, "ppe": 1, "dfa": 1, "rpde": 1}
SIGNED = {"alsfrs_r_slope"}


def generate(folder: Path, seed: int = 0, disease: str = "als", patients: int = 350, max_visits: int = 5, missing: float = 0.06) -> None:
    """Write folder/patients.csv: patient_id, visit, ten measurements, three categories, diagnosis.

    `missing` is the share of measurements lost at random; besides, the second one is measured more often in the ill, so
    that it is missing says something. Every patient draws from a generator of its own: more patients begin with the fewer.
    """
    if disease not in DISEASES:
        raise ValueError(f"generate.disease is '{disease}'; known: {', '.join(DISEASES)}")
    if patients < 10 or max_visits < 1 or not 0 <= missing < 1:
        raise ValueError("generate: at least 10 patients, 1 visit and a share of missing values in [0, 1)")
    table = DISEASES[disease]
    number = list(DISEASES).index(disease)
    header = ["patient_id", "visit", *(c[0] for c in table.numeric), *(c[0] for c in table.categories), "diagnosis"]
    with replacing(folder / "patients.csv") as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for patient in range(patients):
            rng = np.random.default_rng([seed, number, patient])
            writer.writerows(_visits(table, rng, f"P{patient + 1:04d}", int(rng.integers(1, max_visits + 1)), missing))


def _visits(table: Disease, rng: np.random.Generator, name: str, visits: int, missing: float) -> list[list]:
    """The rows of one patient, whose values drift around their own level and whose categories stay."""
    base, own = rng.normal(size=len(table.numeric)), rng.normal(0, 0.4)
    codes = rng.integers(0, 3, len(table.categories))
    rows = []
    for visit in range(visits):
        x = base + rng.normal(0, 0.35, len(base))
        sign = (-1, 0, 1)[codes[0]]
        z = 0.6 * x[0] - 0.5 * x[1] + 1.3 * x[2] * x[3] + (x[4] ** 2 - 1) + sign * x[5] + 0.3 * (codes[1] == 1) + own
        ill = rng.random() < 1 / (1 + np.exp(-1.4 * z))
        gone = rng.random(len(x)) < missing
        gone[1] |= rng.random() < (0.05 if ill else 0.25)
        cells = ["" if g else _written(column, value) for column, value, g in zip(table.numeric, x, gone)]
        words = ["" if rng.random() < missing / 2 else values[code] for (_, values), code in zip(table.categories, codes)]
        rows.append([name, visit + 1, *cells, *words, table.classes[int(ill)]])
    return rows


def _written(column: tuple[str, float, float, int, bool], value: float) -> str:
    """A standard normal value in the column's unit."""
    name, mean, deviation, decimals, skewed = column
    number = mean * np.exp(deviation * value) if skewed else mean + deviation * value
    number = min(number if name in SIGNED else max(number, 0.0), CEILINGS.get(name, np.inf))
    return f"{number:.{decimals}f}"

"""A wildcard fits exactly the names it was made of."""

import re

from hypothesis import given
from hypothesis import strategies as st
from trainyard.dag.pattern import one_of

NAMES = st.sets(st.text("ab-1.[^]\\", min_size=1, max_size=5), max_size=12)


@given(NAMES, NAMES)
def test_exactly_these_names_fit(names, others):
    pattern = one_of(names)
    for name in names | others:
        assert bool(re.fullmatch(pattern, name)) == (name in names), (pattern, name)

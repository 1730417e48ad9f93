"""What is read of a run's trials, and their keys."""

from nvreg.results import Trial, latest_trials, trial_key


def trial(number: int, context: str = "c", **changes) -> Trial:
    settings = {"tau_alpha": {"cross": float(number)}} if number else {}
    values = {
        "key": trial_key(context, "nv", settings),
        "context": context,
        "number": number,
        "method": "nv",
        "seed": 0,
        "settings": settings,
        "resolved": settings,
        "status": "completed",
        "metrics": {"home": {"test": {"bleu": 12.5 + number}}},
        "prior_weight": 0.01,
        "strength": 0.02,
        "seconds": 1.0,
    }
    return Trial(**values | changes)


def test_the_latest_of_each_key_and_seed_comes_where_its_first_line_was():
    lines = [trial(1, seed=1), trial(2), trial(1, seed=2), trial(1, seed=1, seconds=2.0), trial(3, "other")]
    assert latest_trials(lines, "c") == [trial(1, seed=1, seconds=2.0), trial(2), trial(1, seed=2)]


def test_a_key_depends_on_context_method_and_settings():
    settings = {"tau_sigma": {"cross": 0.1}}
    keys = {
        trial_key("a", "nv", settings),
        trial_key("b", "nv", settings),
        trial_key("a", "other", settings),
        trial_key("a", "nv", {"tau_sigma": {"cross": 0.2}}),
        trial_key("a", "nv", {}),
    }
    assert len(keys) == 5
    assert trial_key("a", "nv", dict(settings)) == trial_key("a", "nv", settings)

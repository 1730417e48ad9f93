"""The one trial that a protocol chooses."""

import pytest

from nvreg.errors import UserError
from nvreg.report.choice import choose_trial


def test_one_setting_for_all_domains(small):
    run, arm, trial = choose_trial(small.write(), "in-domain-tolerance")
    assert (trial.number, arm.method, arm.seed) == (2, "nv", 42)
    assert run.directory == small.directory
    assert choose_trial(small.directory, "in-domain-tolerance", domain="books").trial.number == 2


def test_a_setting_for_a_domain(small):
    assert choose_trial(small.write(), "oracle", domain="talks").trial.number == 4
    assert choose_trial(small.directory, "out-of-domain-validation", domain="talks").trial.number == 3


@pytest.mark.parametrize("protocol", ["oracle", "in-domain"])
def test_a_domain_that_the_run_has_not_is_refused(small, protocol):
    with pytest.raises(UserError, match="--domain among news, talks, books, got nowhere"):
        choose_trial(small.write(), protocol, domain="nowhere")


@pytest.mark.parametrize("domain", [None, "news"])
def test_a_protocol_that_chooses_by_domain_needs_one_that_is_out_of_domain(small, domain):
    with pytest.raises(UserError, match=f"--domain with oracle, one of talks, books, got {domain}"):
        choose_trial(small.write(), "oracle", domain=domain)


def test_a_domain_without_validation_has_no_choice(small):
    with pytest.raises(UserError, match="applies to books, got out-of-domain-validation"):
        choose_trial(small.write(), "out-of-domain-validation", domain="books")


def test_an_unknown_protocol_is_refused(small):
    with pytest.raises(UserError, match=r"in-domain-tolerance.*got 'best'"):
        choose_trial(small.write(), "best")


def test_among_several_methods_and_seeds_one_is_to_be_named(small, control):
    small.seeds, small.methods = (42, 43), {**small.methods, control: small.methods["nv"]}
    small.lines[2] |= {"method": control, "seed": 43}
    directory = small.write()
    with pytest.raises(UserError, match="--method among those of the run, nv, control, got None"):
        choose_trial(directory, "in-domain")
    with pytest.raises(UserError, match="--seed among those of the run, 42, 43, got 7"):
        choose_trial(directory, "in-domain", method="nv", seed=7)
    assert choose_trial(directory, "in-domain-tolerance", method=control, seed=43).trial.number == 2
    assert choose_trial(directory, "in-domain-tolerance", method=control, seed=42).trial.number == 0


def test_the_only_method_and_seed_may_be_named(small):
    assert choose_trial(small.write(), "in-domain", method="nv", seed=42).trial.number == 1
    with pytest.raises(UserError, match="--method among those of the run, nv, got sink"):
        choose_trial(small.directory, "in-domain", method="sink")

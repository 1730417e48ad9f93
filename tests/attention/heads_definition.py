"""NV attention in head space as docs/method.md defines it (section 9): loops, and nothing of what is run."""

from __future__ import annotations

import math

import torch


def attend(
    query, key, value, prior, settings, scale, *, added=None, softcap=None, sink=None, interpolates=True
):
    """Return outputs, weights with the prior in column 0, and A_m0, in float64.

    Args:
        query: what the model's attention function is given, shape (batch, heads, queries, e).
        key: shape (batch, key heads, keys, e).
        value: shape (batch, key heads, keys, f).
        prior: has key_mean, value_mean, key_variance, covariance, log_alpha_mean, log_alpha_std.
        settings: tau_alpha, tau_sigma, tau_mu.
        scale: c.
        added: mask and position bias B, shape (batch, heads, queries, keys), ``-inf`` where not seen.
        softcap: t, or None.
        sink: the model's own sink, a logit for each head, or None.
        interpolates: False for the ablation without what the query tells of the value.
    """
    query, key, value = (each.double() for each in (query, key, value))
    outputs, weights, prior_weights = [], [], []
    for row in range(query.shape[0]):
        for head in range(query.shape[1]):
            key_head = head // (query.shape[1] // key.shape[1])
            for m in range(query.shape[2]):
                row_of_b = [0.0] * key.shape[2] if added is None else added[row, head, m].tolist()
                output, *shares = _posterior_mean(
                    query[row, head, m].tolist(),
                    key[row, key_head].tolist(),
                    value[row, key_head].tolist(),
                    _of_head(prior, key_head),
                    settings,
                    scale,
                    row_of_b,
                    softcap,
                    None if sink is None else float(sink[head]),
                    interpolates,
                )
                outputs.append(output)
                weights.append(shares)
                prior_weights.append(shares[0])
    shape = query.shape[:3]
    return tuple(
        torch.tensor(each, dtype=torch.float64).view(*shape, *rest)
        for each, rest in ((outputs, (-1,)), (weights, (-1,)), (prior_weights, ()))
    )


def _of_head(prior, head):
    return {
        "k": prior.key_mean[head].tolist(),
        "v": prior.value_mean[head].tolist(),
        "S": prior.key_variance[head].tolist(),
        "C": prior.covariance[head].tolist(),
        "log_alpha": float(prior.log_alpha_mean[head]),
        "s_alpha": float(prior.log_alpha_std),
    }


def _posterior_mean(q, keys, values, prior, settings, scale, added, softcap, sink, interpolates):
    """Return the output of one query of one head, and the weights of prior and tokens."""
    tau_alpha, tau_sigma, tau_mu = settings
    noise = 1 / scale
    width = range(len(q))

    def log_alpha(k):
        return scale / 2 * sum(x * x for x in k) + tau_alpha * prior["s_alpha"]

    def logit(mean, variance, log_mass, b):
        total = [variance[j] + noise for j in width]
        product = sum(q[j] * mean[j] / total[j] for j in width)
        if softcap is not None:
            product = softcap * math.tanh(product / softcap)
        norm = sum(mean[j] ** 2 / total[j] for j in width) / 2
        spread = sum(math.log(total[j]) for j in width) / 2 if interpolates else 0.0
        return product + log_mass - norm - spread + b

    def posterior(key_mean, value_mean, share):
        """Return the value that is expected of a component, given that the query observes its key."""
        if not interpolates:
            return value_mean
        gains = [share * (q[j] - key_mean[j]) / (share * prior["S"][j] + noise) for j in width]
        return [
            mean + sum(covariance[j] * gains[j] for j in width)
            for mean, covariance in zip(value_mean, prior["C"], strict=True)
        ]

    components = []  # logit and posterior mean of the value, or None where there is no value
    if tau_alpha == math.inf:  # the prior has no weight; what all tokens share no longer matters
        prior_logit, prior = -math.inf, prior | {"s_alpha": 0.0}
        tau_alpha = 0.0
    else:
        prior_logit = logit(prior["k"], prior["S"], prior["log_alpha"], 0.0)
    components.append((prior_logit, posterior(prior["k"], prior["v"], 1.0)))
    token_variance = [tau_sigma**2 * s for s in prior["S"]]
    for k, v, b in zip(keys, values, added, strict=True):
        key_mean = [tau_mu * x + (1 - tau_mu) * p for x, p in zip(k, prior["k"], strict=True)]
        value_mean = [tau_mu * x + (1 - tau_mu) * p for x, p in zip(v, prior["v"], strict=True)]
        components.append(
            (
                logit(key_mean, token_variance, log_alpha(k), b),
                posterior(key_mean, value_mean, tau_sigma**2),
            )
        )
    if sink is not None:
        shared = tau_alpha * prior["s_alpha"]
        if interpolates:
            shared -= sum(math.log(s + noise) for s in token_variance) / 2
        components.append((sink + shared, None))
    highest = max(logit for logit, _ in components)
    mass = [math.exp(logit - highest) for logit, _ in components]
    shares = [each / sum(mass) for each in mass]
    with_value = range(1 + len(keys))
    output = [sum(shares[i] * components[i][1][j] for i in with_value) for j in range(len(prior["v"]))]
    return output, *(shares[i] for i in with_value)

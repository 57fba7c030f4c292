#!/usr/bin/env python3
"""Golden numbers for the ridge head, made by scikit-learn.

    pip install scikit-learn && python3 ridge.py > ridge.json

Each case: features rounded to f32, labels, strength, and what a StandardScaler followed by Ridge(alpha = strength * n * d)
gives: coefficients in standardised units, intercept, and predictions for four more rows. One case has more rows than
features, one fewer, one a constant feature, and the circular one fits (cos, sin) of a minute of the day.
"""

import json

import numpy as np
import sklearn
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

rng = np.random.default_rng(20240601)


def rows(x):
    """Three decimals, which name each f32 exactly enough to read it back."""
    return [[round(float(v), 3) for v in row] for row in x]


def case(name, n, d, strength, circular=False, constant=False):
    x = (rng.normal(size=(n + 4, d)) * rng.uniform(0.1, 9, d) + rng.normal(size=d)).astype(np.float32)
    x = np.round(x, 3).astype(np.float32)
    if constant:
        x[:, 1] = 2.5
    train, more = x[:n].astype(np.float64), x[n:].astype(np.float64)
    values = np.round(rng.uniform(0, 1440, n) if circular else rng.poisson(4, n) + 0.0, 3)
    angle = values / 1440 * 2 * np.pi
    y = np.stack([np.cos(angle), np.sin(angle)], 1) if circular else values[:, None]
    scaler = StandardScaler().fit(train)
    ridge = Ridge(alpha=strength * n * d, solver="svd").fit(scaler.transform(train), y)
    return {
        "name": name,
        "circular": circular,
        "strength": strength,
        "rows": rows(x[:n]),
        "more": rows(x[n:]),
        "values": values.tolist(),
        "weight": np.atleast_2d(ridge.coef_).tolist(),
        "bias": np.atleast_1d(ridge.intercept_).tolist(),
        "outputs": ridge.predict(scaler.transform(more)).reshape(4, -1).tolist(),
    }


cases = [
    case("more rows than features", 20, 6, 0.01),
    case("fewer rows than features", 8, 14, 0.003),
    case("a constant feature", 12, 5, 0.1, constant=True),
    case("circular, fewer rows", 9, 12, 1e-5, circular=True),
]
print(json.dumps({"made_with": f"scikit-learn {sklearn.__version__}", "cases": cases}, indent=None))

"""Equality blocks of linear programs in numbers: the equations of public instances, and how their entries are read."""

from __future__ import annotations

from itertools import permutations

Block = tuple[int, list[dict[int, float]], list[float]]
"""How many variables, for each equation the coefficient of each variable in it, and the right-hand sides."""

AFIRO: Block = (
    32,
    [
        {0: -1, 1: 1, 2: 1},
        {0: -1.06, 3: 1},
        {4: -1, 5: -1, 6: -1, 7: -1, 12: 1, 13: 1},
        {4: -1.06, 5: -1.06, 6: -0.96, 7: -0.86, 14: 1},
        {15: -1, 16: 1, 17: 1, 18: 1},
        {15: -0.43, 19: 1},
        {20: -0.43, 21: -0.43, 22: -0.39, 23: -0.37, 30: 1},
        {20: 1, 21: 1, 22: 1, 23: 1, 28: -1, 29: 1, 31: 1},
    ],
    [0, 0, 0, 0, 0, 0, 0, 44],
)

ADLITTLE: Block = (
    97,
    [
        {43: 1, 44: 1, 57: 1, 58: 1, 83: 1},
        {42: -1, 43: 37, 44: 47, 57: 45, 58: 55, 83: 45},
        {95: 1},
        {
            43: 0.494,
            44: 0.492,
            48: 0.4703,
            49: 0.4273,
            50: 0.4663,
            51: 0.55,
            52: 1,
            57: 0.3675,
            58: 0.365,
            59: -0.828,
            60: -0.808,
            61: -0.808,
            62: -1,
            63: -1,
            66: 0.482,
            67: 0.474,
            71: -0.125,
            73: -0.25,
            74: -0.25,
            75: -0.706,
            76: -0.69,
            77: -0.69,
            81: -1,
            84: -1,
            85: -1,
            91: -0.026,
            95: -0.029,
        },
        {
            9: -1.23,
            12: -1,
            15: -0.95,
            18: -0.79,
            21: -0.42,
            24: -0.05,
            27: -0.26,
            32: 0.26,
            36: 0.16,
            39: -0.16,
            45: 0.62,
            59: 1,
        },
        {
            10: -1.23,
            13: -1,
            16: -0.95,
            19: -0.79,
            22: -0.42,
            25: -0.05,
            28: -0.26,
            34: 0.26,
            37: 0.16,
            40: -0.16,
            46: 0.62,
            60: 1,
        },
        {
            11: -1.23,
            14: -1,
            17: -0.95,
            20: -0.79,
            23: -0.42,
            26: -0.05,
            29: -0.26,
            35: 0.26,
            38: 0.16,
            41: -0.16,
            47: 0.62,
            61: 1,
        },
        {66: 1, 67: 1, 86: 1},
        {4: 1, 5: 1, 73: 1, 74: 1, 87: 1},
        {
            9: 0.23,
            15: -0.05,
            18: -0.21,
            21: -0.58,
            24: -0.95,
            27: -0.74,
            32: -1.26,
            36: -1.16,
            39: -0.84,
            45: -1.62,
            75: 1,
        },
        {
            10: 0.23,
            16: -0.05,
            19: -0.21,
            22: -0.58,
            25: -0.95,
            28: -0.74,
            34: -1.26,
            37: -1.16,
            40: -0.84,
            46: -1.62,
            76: 1,
        },
        {
            11: 0.23,
            17: -0.05,
            20: -0.21,
            23: -0.58,
            26: -0.95,
            29: -0.74,
            35: -1.26,
            38: -1.16,
            41: -0.84,
            47: -1.62,
            77: 1,
        },
        {3: -9.5, 6: 3.6, 30: -3.2, 82: -10.1, 88: -64.3, 89: -27.4, 90: 9.1},
        {
            8: -0.8,
            33: -0.8,
            48: -0.0928,
            49: -0.0361,
            50: -0.0361,
            51: -0.52,
            52: -1,
            53: 0.017,
            57: 0.02536,
            58: 0.02538,
            59: 0.012,
            60: 0.0205,
            61: 0.0205,
            65: -0.8,
            71: 0.01812,
            73: 0.03625,
            74: 0.03625,
            75: 0.0129,
            76: 0.0195,
            77: 0.0195,
            91: -0.182,
            95: -0.119,
            96: -0.8,
        },
        {
            43: 2.27424,
            44: 2.2632,
            48: 1.40015,
            49: 1.20404,
            50: 1.43498,
            51: 0.6,
            52: 1.8,
            57: 1.614,
            58: 1.59,
            59: -1.42,
            60: -1.84,
            61: -1.84,
            62: -5.2,
            63: -6.7,
            66: 2.217,
            67: 2.18,
            71: -0.65,
            73: -1.36562,
            74: -1.38375,
            75: -1.61,
            76: -1.84,
            77: -1.84,
            81: -5.3,
            84: -4.35,
            85: -2.1,
            91: -0.1742,
            95: -0.194,
        },
    ],
    [52.6, 2366, 0, -524.9, 0, 0, 0, 43, 44.9, 0, 0, 0, 0, 2.5, -1231.6],
)

GALENET: Block = (
    8,
    [
        {0: 1, 1: 1, 4: -1, 5: -1},
        {2: 1, 3: 1, 6: -1, 7: -1},
    ],
    [0, 0],
)


def quadratic_assignment(n: int) -> Block:
    """The linearised assignment of n things to n places (QAP04 with n = 4): x_kl, and y_ijkl for x_ij x_kl.

    Each thing has a place and each place a thing; for each x_kl the products with the possible x_ij of any other thing,
    and of any other place, add up to it. Source: Adams and Johnson 1994, Improved linear programming-based lower bounds
    for the quadratic assignment problem.
    """
    number: dict[tuple[int, ...], int] = {(k, place): k * n + place for k in range(n) for place in range(n)}
    for i, k in permutations(range(n), 2):
        for j, place in permutations(range(n), 2):
            if i < k:
                number[i, j, k, place] = number[k, place, i, j] = len(set(number.values()))
    rows = [{number[k, place]: 1.0 for place in range(n)} for k in range(n)]
    rows += [{number[k, place]: 1.0 for k in range(n)} for place in range(n)]
    for k in range(n):
        for place in range(n):
            others, elsewhere = ([m for m in range(n) if m != own] for own in (k, place))
            rows += [{number[k, place]: -1.0} | {number[i, j, k, place]: 1.0 for j in elsewhere} for i in others]
            rows += [{number[k, place]: -1.0} | {number[i, j, k, place]: 1.0 for i in others} for j in elsewhere]
    return len(set(number.values())), rows, [1.0] * (2 * n) + [0.0] * (len(rows) - 2 * n)


def transport(sources: int, sinks: int) -> Block:
    """What leaves each source and what reaches each sink, of a matrix of flows."""
    rows = [{i * sinks + j: 1.0 for j in range(sinks)} for i in range(sources)]
    rows += [{i * sinks + j: 1.0 for i in range(sources)} for j in range(sinks)]
    return sources * sinks, rows, [float(sinks)] * sources + [float(sources)] * sinks


def flows(edges: list[tuple[int, int]], nodes: int) -> Block:
    """What flows into each node of a graph less what flows out: one variable for each edge."""
    rows: list[dict[int, float]] = [{} for _ in range(nodes)]
    for k, (tail, head) in enumerate(edges):
        rows[tail][k], rows[head][k] = -1.0, 1.0
    return len(edges), rows, [0.0] * nodes

"""TGB's own evaluator on lists with scores, in a Python that has py-tgb: python tgb_judge.py CASES.npz prints MRR and hits@10.

It shares nothing with Freshet. CASES: `items` [N, D] what the list of each of N test edges gives the D destinations as a
score, lower than all of them where the destination is not in the list; `right` [N] which destination came; `also` [M, 2]
(edge, destination) of what else its source took at the same time, which TGB has among no edge's negatives.
"""

import json
import sys

import numpy as np
from tgb.linkproppred.evaluate import Evaluator

cases = np.load(sys.argv[1])
scores, right, also = cases["items"], cases["right"], cases["also"]
positive = scores[np.arange(len(scores)), right].copy()
scores[also[:, 0], also[:, 1]] = -np.inf
scores[np.arange(len(scores)), right] = -np.inf  # what came is no negative
found = Evaluator("tgbl-wiki").eval({"y_pred_pos": positive, "y_pred_neg": scores, "eval_metric": ["mrr", "hits@"]})
print(json.dumps({name: float(value) for name, value in found.items()}))

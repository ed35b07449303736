"""From scores to a list: the K best, ties by the UTF-8 bytes of the item id, the rest filled by popularity."""

from tgn.graph import F32, I32
from tgn.kernel import kernel
from tgn.node_index import Names, name_before


@kernel
def before(score_a: float, a: int, score_b: float, b: int, names: Names) -> bool:
    """Whether item a with its score goes before item b with its own."""
    return score_a > score_b or (score_a == score_b and name_before(names, a, b))


@kernel
def top_k(items: I32, scores: F32, n: int, names: Names, out_items: I32, out_scores: F32) -> int:
    """Writes the best min(n, K) of n candidates, best first, and returns how many. K = len(out_items)."""
    k = min(n, len(out_items))
    for c in range(k):
        _sift_up(out_items, out_scores, c, items[c], scores[c], names)
    for c in range(k, n):
        if before(scores[c], items[c], out_scores[0], out_items[0], names):
            _sift_down(out_items, out_scores, k, items[c], scores[c], names)
    for end in range(k - 1, 0, -1):  # heap sort: the worst of the heap goes to its end
        item, score = out_items[end], out_scores[end]
        out_items[end], out_scores[end] = out_items[0], out_scores[0]
        _sift_down(out_items, out_scores, end, item, score, names)
    return k


@kernel
def _sift_up(items: I32, scores: F32, place: int, item: int, score: float, names: Names) -> None:
    """Puts an entry at the end of a heap whose root is the worst entry."""
    while place > 0:
        parent = (place - 1) // 2
        if before(score, item, scores[parent], items[parent], names):
            break
        items[place], scores[place] = items[parent], scores[parent]
        place = parent
    items[place], scores[place] = item, score


@kernel
def _sift_down(items: I32, scores: F32, size: int, item: int, score: float, names: Names) -> None:
    """Replaces the root of a heap whose root is the worst entry."""
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and before(scores[child], items[child], scores[child + 1], items[child + 1], names):
            child += 1
        if before(score, item, scores[child], items[child], names):
            items[place], scores[place] = items[child], scores[child]
            place = child
        else:
            break
    items[place], scores[place] = item, score

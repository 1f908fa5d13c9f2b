# mypy: disable-error-code="no-untyped-def,untyped-decorator"
"""Triton kernels of the prompt term: one forward, two backward. `zia_core.fused_term` runs them.

A program handles one head of one sample and a stretch of its queries. It loads K_p, V_p and the
gate once, reads queries and text once, and writes once; scores stay in registers, in float32. Heads
wider than BLOCK_D are processed in NUM_D pieces, which bounds registers and shared memory. There
are no atomics, so the same input gives the same bits.
"""

import triton
import triton.language as tl

INTERPRETED: tl.constexpr = tl.constexpr(triton.knobs.runtime.interpret)


@triton.jit
def _dot(a, b, sums):
    """sums + a b in float32, without TF32."""
    if INTERPRETED:  # on the CPU, where NumPy would multiply the raw bits of bfloat16
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, sums, input_precision="ieee")


@triton.jit
def _rounded(x, dtype: tl.constexpr):
    """float32 rounded to nearest in another dtype."""
    if INTERPRETED and dtype == tl.bfloat16:  # on the CPU, which truncates the last 16 bits
        x = (x.to(tl.int32, bitcast=True) + 0x8000).to(tl.float32, bitcast=True)
    return x.to(dtype)


@triton.jit
def _pieces(pointer, row, stride, rows, D: tl.constexpr, first, BLOCK_D: tl.constexpr):
    """Load BLOCK_D columns of some rows, from column `first`; zeros past the last row and D."""
    column = first + tl.arange(0, BLOCK_D)
    inside = (row < rows)[:, None] & (column < D)[None, :]
    return tl.load(
        pointer + row[:, None].to(tl.int64) * stride + column[None, :], mask=inside, other=0.0
    )


@triton.jit
def _softmax(scores, softcap, K: tl.constexpr, CAPPED: tl.constexpr, BLOCK_K: tl.constexpr):
    """Weights of K prompts, and the derivative of the soft-cap (1 without one)."""
    slope = 1.0
    if CAPPED:
        bounded = 2.0 * tl.sigmoid(2.0 * scores / softcap) - 1.0  # tanh
        scores = softcap * bounded
        slope = 1.0 - bounded * bounded
    scores = tl.where(tl.arange(0, BLOCK_K)[None, :] < K, scores, float("-inf"))
    weights = tl.exp(scores - tl.max(scores, 1)[:, None])
    return weights / tl.sum(weights, 1)[:, None], slope


@triton.jit
def forward(
    out,
    text,
    text_b,
    text_t,
    text_h,
    query,
    key,
    value,
    strength,
    T,
    query_b,
    query_h,
    query_t,
    key_b,
    key_g,
    key_k,
    value_b,
    value_g,
    value_k,
    strength_h,
    scale,
    softcap,
    heads: tl.constexpr,
    group: tl.constexpr,
    K: tl.constexpr,
    D: tl.constexpr,
    CAPPED: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    NUM_D: tl.constexpr,
):
    """out [B, T, H, D] = text + a(g) softmax(q K_p^T * scale) V_p; grid (B*H, stretches of T)."""
    b = (tl.program_id(0) // heads).to(tl.int64)
    h = tl.program_id(0) % heads
    t = tl.program_id(1) * BLOCK_T + tl.arange(0, BLOCK_T)
    k = tl.arange(0, BLOCK_K)
    key += b * key_b + (h // group) * key_g
    value += b * value_b + (h // group) * value_g
    query += b * query_b + h * query_h
    text += b * text_b + h * text_h
    out += (b * T * heads + h) * D
    gate = tl.load(strength + h * strength_h).to(tl.float32)

    scores = tl.zeros([BLOCK_T, BLOCK_K], tl.float32)
    for i in tl.static_range(NUM_D):
        q = _pieces(query, t, query_t, T, D, i * BLOCK_D, BLOCK_D)
        k_p = _pieces(key, k, key_k, K, D, i * BLOCK_D, BLOCK_D)
        scores = _dot(q, tl.trans(k_p), scores)
    weights, _ = _softmax(scores * scale, softcap, K, CAPPED, BLOCK_K)
    weights = _rounded(weights, query.dtype.element_ty)
    for i in tl.static_range(NUM_D):
        v_p = _pieces(value, k, value_k, K, D, i * BLOCK_D, BLOCK_D)
        v_p = _rounded(gate * v_p.to(tl.float32), value.dtype.element_ty)
        words = _pieces(text, t, text_t, T, D, i * BLOCK_D, BLOCK_D)
        both = _dot(weights, v_p, tl.zeros([BLOCK_T, BLOCK_D], tl.float32)) + words.to(tl.float32)
        column = i * BLOCK_D + tl.arange(0, BLOCK_D)
        inside = (t < T)[:, None] & (column < D)[None, :]
        there = out + t[:, None].to(tl.int64) * (heads * D) + column[None, :]
        tl.store(there, _rounded(both, out.dtype.element_ty), mask=inside)


@triton.jit
def backward(
    query_grad,
    key_part,
    value_part,
    grad,
    STRETCH,
    grad_b,
    grad_t,
    grad_h,
    d_query_b,
    d_query_h,
    d_query_t,
    query,
    key,
    value,
    strength,
    T,
    query_b,
    query_h,
    query_t,
    key_b,
    key_g,
    key_k,
    value_b,
    value_g,
    value_k,
    strength_h,
    scale,
    softcap,
    heads: tl.constexpr,
    group: tl.constexpr,
    K: tl.constexpr,
    D: tl.constexpr,
    CAPPED: tl.constexpr,
    QUERY: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    NUM_D: tl.constexpr,
):
    """Gradients of q [B, H, T, D], and of K_p and a(g) V_p from each stretch of queries.

    The grid is (B*H, stretches, NUM_D): a program computes BLOCK_D columns of each. Prompt
    gradients are [B, stretches, H, K, D] in float32, to be summed by `combine`.
    """
    b = (tl.program_id(0) // heads).to(tl.int64)
    h = tl.program_id(0) % heads
    own = tl.program_id(2) * BLOCK_D
    k = tl.arange(0, BLOCK_K)
    column = own + tl.arange(0, BLOCK_D)
    key += b * key_b + (h // group) * key_g
    value += b * value_b + (h // group) * value_g
    query += b * query_b + h * query_h
    grad += b * grad_b + h * grad_h
    query_grad += b * d_query_b + h * d_query_h
    gate = tl.load(strength + h * strength_h).to(tl.float32)
    half = query.dtype.element_ty

    k_own = _pieces(key, k, key_k, K, D, own, BLOCK_D)
    v_own = _pieces(value, k, value_k, K, D, own, BLOCK_D)
    v_own = _rounded(gate * v_own.to(tl.float32), half)
    d_key = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
    d_value = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
    begin = tl.program_id(1) * STRETCH
    for start in range(begin, min(begin + STRETCH, T), BLOCK_T):
        t = start + tl.arange(0, BLOCK_T)
        q_own = _pieces(query, t, query_t, T, D, own, BLOCK_D)
        g_own = _pieces(grad, t, grad_t, T, D, own, BLOCK_D).to(half)
        scores = tl.zeros([BLOCK_T, BLOCK_K], tl.float32)
        d_weights = tl.zeros([BLOCK_T, BLOCK_K], tl.float32)
        if NUM_D == 1:
            scores = _dot(q_own, tl.trans(k_own), scores)
            d_weights = _dot(g_own, tl.trans(v_own), d_weights)
        else:
            for i in tl.static_range(NUM_D):
                q = _pieces(query, t, query_t, T, D, i * BLOCK_D, BLOCK_D)
                k_p = _pieces(key, k, key_k, K, D, i * BLOCK_D, BLOCK_D)
                scores = _dot(q, tl.trans(k_p), scores)
                g = _pieces(grad, t, grad_t, T, D, i * BLOCK_D, BLOCK_D).to(half)
                v_p = _pieces(value, k, value_k, K, D, i * BLOCK_D, BLOCK_D)
                v_p = _rounded(gate * v_p.to(tl.float32), half)
                d_weights = _dot(g, tl.trans(v_p), d_weights)
        weights, slope = _softmax(scores * scale, softcap, K, CAPPED, BLOCK_K)
        d_scores = weights * (d_weights - tl.sum(weights * d_weights, 1)[:, None])
        d_scores = _rounded(d_scores * slope * scale, half)
        d_key = _dot(tl.trans(d_scores), q_own, d_key)
        d_value = _dot(tl.trans(_rounded(weights, half)), g_own, d_value)
        if QUERY:
            d_query = _dot(d_scores, k_own, tl.zeros([BLOCK_T, BLOCK_D], tl.float32))
            inside = (t < T)[:, None] & (column < D)[None, :]
            there = query_grad + t[:, None].to(tl.int64) * d_query_t + column[None, :]
            tl.store(there, _rounded(d_query, half), mask=inside)
    part = ((b * tl.num_programs(1) + tl.program_id(1)) * heads + h) * K * D
    place = part + k[:, None] * D + column[None, :]
    inside = (k < K)[:, None] & (column < D)[None, :]
    tl.store(key_part + place, d_key, mask=inside)
    tl.store(value_part + place, d_value, mask=inside)


@triton.jit
def combine(
    key_grad,
    value_grad,
    strength_part,
    key_part,
    value_part,
    value,
    strength,
    parts,
    value_b,
    value_g,
    value_k,
    strength_h,
    heads: tl.constexpr,
    group: tl.constexpr,
    K: tl.constexpr,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Sum parts [R * parts, H, K, D] to gradients [R, G, K, D], and of the gates [R, blocks, H].

    The grid is (blocks of K*D, G, R), with R = B for per-sample keys or values, else 1.
    """
    r = tl.program_id(2).to(tl.int64)
    g = tl.program_id(1)
    e = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = e < K * D
    there = value + r * value_b + g * value_g + (e // D) * value_k + e % D
    v_p = tl.load(there, mask=inside, other=0.0).to(tl.float32)
    d_key = tl.zeros([BLOCK], tl.float32)
    d_value = tl.zeros([BLOCK], tl.float32)
    for h in range(g * group, (g + 1) * group):
        of_key = tl.zeros([BLOCK], tl.float32)
        of_value = tl.zeros([BLOCK], tl.float32)
        for start in range(0, parts, ROWS):
            row = start + tl.arange(0, ROWS)
            place = ((r * parts + row[:, None]) * heads + h) * (K * D) + e[None, :]
            found = (row < parts)[:, None] & inside[None, :]
            of_key += tl.sum(tl.load(key_part + place, mask=found, other=0.0), 0)
            of_value += tl.sum(tl.load(value_part + place, mask=found, other=0.0), 0)
        d_key += of_key
        d_value += tl.load(strength + h * strength_h).to(tl.float32) * of_value
        of_gate = tl.sum(of_value * v_p, 0)
        tl.store(strength_part + (r * tl.num_programs(0) + tl.program_id(0)) * heads + h, of_gate)
    place = (r * tl.num_programs(1) + g) * (K * D) + e
    tl.store(key_grad + place, _rounded(d_key, key_grad.dtype.element_ty), mask=inside)
    tl.store(value_grad + place, _rounded(d_value, value_grad.dtype.element_ty), mask=inside)

// Mixture of experts: the router's choice and the chosen experts' products.
#pragma once

// The n largest of E router logits, largest first, and their softmax; ties go to the lower index.
CALL void choose_experts(const Instruction& I, Shared& s) {
    if (threadIdx.x < 32) {
        const int lane = threadIdx.x;
        float mine[8];
#pragma unroll
        for (int j = 0; j < 8; ++j) {
            int e = lane + 32 * j;
            mine[j] = e < I.n_experts ? shared_read(I.x2 + e) : -__int_as_float(0x7f800000);
        }
        float top = 0.f, sum = 0.f, kept = 0.f;
        for (int c = 0; c < I.n_chosen; ++c) {
            float v = -__int_as_float(0x7f800000);
            int i = 0x7fffffff;
#pragma unroll
            for (int j = 0; j < 8; ++j) if (better(mine[j], lane + 32 * j, v, i)) v = mine[j], i = lane + 32 * j;
#pragma unroll
            for (int d = 16; d; d >>= 1) {
                float v2 = __shfl_xor_sync(FULL, v, d);
                int i2 = __shfl_xor_sync(FULL, i, d);
                if (better(v2, i2, v, i)) v = v2, i = i2;
            }
            if (i >= I.n_experts) i = c;        // NaN logits compare with nothing: stay inside the matrix
#pragma unroll
            for (int j = 0; j < 8; ++j) if (lane + 32 * j == i) mine[j] = -__int_as_float(0x7f800000);
            if (c == 0) top = v;
            float p = expf(v - top);
            sum += p;
            if (lane == c) kept = p;
            if (lane == 0) s.chosen[c] = i;
        }
        if (lane < I.n_chosen) s.weight[lane] = kept / sum;
    }
    __syncthreads();
}

DEV void prefetch_bytes(const u8* p, u64 bytes) {       // bytes and p are multiples of 16
    const u32 piece = 4096;
    for (u64 at = (u64)threadIdx.x * piece; at < bytes; at += (u64)THREADS * piece) {
        u32 n = (u32)(bytes - at < piece ? bytes - at : piece);
        asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" :: "l"(p + at), "r"(n) : "memory");
    }
}
#define PREFETCH_LIMIT 98304ull

// gate and up of the chosen experts with SwiGLU-OAI: out[slot][n_ff]. Parts: gate and up, or one with both.
CALL void do_experts_up(const Instruction& I, const Instruction& next, const Memory& m, Shared& s) {
    choose_experts(I, s);
    const int per = I.parts[0].octets / (I.n_parts == 1 ? 2 : 1);
    int from, to;
    share(per * I.n_chosen, from, to);
    if (from >= to) return;
    float unit = prepare(I, I.x, m, m.planes, s);
    int place = 0;
    for (int pass = 0; pass < 2; ++pass) {
        place = 0;
        for (int c = 0; c < I.n_chosen; ++c) {
            int a = max(from - c * per, 0), b = min(to - c * per, per);
            if (a >= b) continue;
            const int expert = s.chosen[c];
            Run gate, up;
            int n_ff;
            pair_runs(I, a, b, expert, gate, up, n_ff);
            float* p = m.part + place;
            float* p2 = p + (b - a + WARPS) * 8;
            place += 2 * (b - a + WARPS) * 8;
            if (pass == 0) {
                stream(gate, I.k, m, unit, p);
                stream(up, I.k, m, unit, p2);
            } else {
                const float* bias = I.bias ? I.bias + (u64)expert * 2 * n_ff : 0;
                for (int r = threadIdx.x; r < gate.rows; r += THREADS) {
                    int row = a * 8 + r;
                    float g = row_sum(gate, I.k, p, r), u = row_sum(up, I.k, p2, r);
                    if (bias) g += bias[row], u += bias[n_ff + row];
                    I.out[(u64)c * n_ff + row] = I.act == SWIGLU ? swiglu(g, u) : swiglu_oai(g, u);
                }
            }
        }
        if (pass == 0) __syncthreads();
    }
    // The chosen experts' other matrices are known now: bring this block's share nearer.
    if (next.op == EXPERTS_DOWN) {
        share(next.tiles, from, to);
        u64 bytes = (u64)(to - from) * octet_bytes(next.parts[0].type, next.k);
        for (int c = 0; c < I.n_chosen; ++c)
            prefetch_bytes(run_of(next.parts[0], next.k, from, to, s.chosen[c]).base, bytes);
    }
    __syncthreads();
}

// sum over the chosen of weight * (down h + bias) (+ residual). x is (n_chosen, k).
CALL void do_experts_down(const Instruction& I, const Memory& m, Shared& s) {
    choose_experts(I, s);
    int from, to;
    share(I.tiles, from, to);
    if (from >= to) return;
    const int words = blocks_of(I.k) * BLOCK_WORDS;
    const int region = (to - from + WARPS) * 8;
    for (int c = 0; c < I.n_chosen; ++c) {
        Memory mine = m;
        mine.xsum = m.xsum + c * blocks_of(I.k);
        mine.planes = m.planes + c * words;
        mine.floats = (float*)(m.planes + (I.flags & 4 ? I.n_chosen * words : 0)) + c * blocks_of(I.k) * 32;
        float unit = prepare(I, I.x + (u64)c * I.k, mine, mine.planes, s);
        Run r = run_of(I.parts[0], I.k, from, to, s.chosen[c]);
        stream(r, I.k, mine, unit, m.part + c * region);
    }
    __syncthreads();
    Run r = run_of(I.parts[0], I.k, from, to, 0);
    for (int i = threadIdx.x; i < r.rows; i += THREADS) {
        int row = from * 8 + i;
        float v = 0.f;
        for (int c = 0; c < I.n_chosen; ++c) {
            float e = row_sum(r, I.k, m.part + c * region, i);
            if (I.bias) e += I.bias[(u64)s.chosen[c] * I.parts[0].rows + row];
            v = fmaf(s.weight[c], e, v);
        }
        if (I.residual) v += shared_read(I.residual + row);
        I.out[row] = v;
    }
    __syncthreads();
}

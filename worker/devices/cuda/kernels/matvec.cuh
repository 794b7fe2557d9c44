// The instructions behind most of a step: norm, product with one or several stored matrices, bias, activation, residual;
// and the same for the experts that a router chose.
#pragma once

// The n largest of E router logits, largest first, and their softmax; ties go to the lower index. One warp.
DEV void choose_experts(const Instruction& I, Shared& s) {
    const int lane = threadIdx.x;
    const float none = -__int_as_float(0x7f800000);
    float mine[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) mine[j] = lane + 32 * j < I.n_experts ? shared_read(I.x2 + lane + 32 * j) : none;
    float top = 0.f, sum = 0.f, kept = 0.f;
    for (int c = 0; c < I.n_chosen; ++c) {
        float v = none;
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
        for (int j = 0; j < 8; ++j) if (lane + 32 * j == i) mine[j] = none;
        if (c == 0) top = v;
        float p = expf(v - top);
        sum += p;
        if (lane == c) kept = p;
        if (lane == 0) s.chosen[c] = i;
    }
    if (lane < I.n_chosen) s.weight[lane] = kept / sum;
    __syncwarp();
}

DEV bool is_paired(const Instruction& I) { return I.act == SWIGLU || I.act == SWIGLU_OAI; }

// What output tiles [begin, end) need, one run a lane of one warp: parts one below the other; gate and up side by side;
// gate and up of every chosen expert; one matrix of every expert.
DEV void plan_runs(const Instruction& I, int begin, int end, Plan& plan, const Shared& s) {
    const int lane = threadIdx.x & 31, op = I.op;
    const bool paired = is_paired(I), one = I.n_parts == 1;
    const int half = I.parts[0].octets / (one ? 2 : 1);
    int n = I.n_parts, p = lane, from = begin, to = end, expert = 0, row0 = 0, rows = 0, shift = 0, input = 0;
    if (op == EXPERTS_DOWN) {
        n = I.n_chosen, p = 0, input = lane;
        rows = I.parts[0].rows;
        if (lane < n) expert = s.chosen[lane];
    } else if (paired) {
        const int c = lane >> 1;
        n = op == EXPERTS_UP ? 2 * I.n_chosen : 2;
        p = one ? 0 : lane & 1;
        shift = one && (lane & 1) ? half : 0;
        rows = I.parts[0].rows / (one ? 2 : 1);
        if (op == EXPERTS_UP && lane < n) {
            expert = s.chosen[c];
            from = max(begin - c * half, 0), to = min(end - c * half, half);
        }
    } else if (lane < n) {
        int octet0 = 0;
        for (int i = 0; i < lane; ++i) octet0 += I.parts[i].octets;
        from = max(begin - octet0, 0), to = min(end - octet0, I.parts[lane].octets);
        rows = I.parts[lane].rows, row0 = I.parts[lane].row0;
    }
    const int octets = lane < n ? max(to - from, 0) : 0, size = octets ? octets + WARPS : 0;
    int place = size;
#pragma unroll
    for (int d = 1; d < MAX_RUNS; d <<= 1) {
        int v = __shfl_up_sync(FULL, place, d);
        if (lane >= d) place += v;
    }
    // Runs without octets are left out: the lanes with some, counted.
    const u32 some = __ballot_sync(FULL, octets > 0);
    if (octets > 0) {
        Run r;
        r.type = I.parts[p].type;
        r.octets = octets;
        r.rows = min(rows - from * 8, octets * 8);
        r.row0 = row0 + from * 8;
        r.part = (place - size) * 8;
        r.input = input;
        r.per = units_of(r.type, I.k);
        r.units = octets * r.per;
        r.inv_per = 1.f / (float)r.per;
        r.inv_units = 1.f / (float)r.units;
        r.bytes = octets * octet_bytes(r.type, I.k);
        r.base = octets_at(I.parts[p], I.k, from + shift, expert);
        r.expert = op == EXPERTS_UP ? lane >> 1 : lane;
        plan.runs[__popc(some & ((1u << lane) - 1))] = r;
    }
    if (lane == 0) plan.n = __popc(some), plan.from = begin, plan.to = end;
}

DEV int batch_of(const Instruction& I) {
    return is_paired(I) ? BATCH_OCTETS / 2 : I.op == EXPERTS_DOWN ? BATCH_OCTETS / MAX_CHOSEN : BATCH_OCTETS;
}

// One warp: this block's runs of an instruction that does not wait for a router.
DEV void plan_ahead(const Instruction& I, Plan& plan, const Shared& s) {
    if (threadIdx.x == 0) plan.n = 0;
    __syncwarp();
    if (I.op != MATVEC) return;
    int from, to;
    share(I.share_q, I.share_r, from, to);
    plan_runs(I, from, min(to, from + batch_of(I)), plan, s);
    __syncwarp();
}

// One warp: what memory has to bring for the next instruction but one, or the next.
DEV void prefetch(const Instruction& two_ahead, const Plan& next) {
    const int lane = threadIdx.x & 31;
    if (two_ahead.norm != NO_NORM && blockIdx.x % 16 == 0)
        for (int i = lane * 32; i < two_ahead.k; i += 1024) asm volatile("prefetch.global.L2 [%0];" :: "l"(two_ahead.norm_w + i));
    if (next.n == 1 && next.runs[0].type == F32)        // few rows, many bytes a row: a router
        for (int i = lane * 128; i < min(next.runs[0].bytes, 98304); i += 4096) asm volatile("prefetch.global.L2 [%0];" :: "l"(next.runs[0].base + i));
}

DEV void do_product(const Instruction& I, Plan& plan, State* st, Shared& s, Best* scratch) {
    const int op = I.op;
    const bool paired = is_paired(I), experts = op == EXPERTS_UP || op == EXPERTS_DOWN, pick = (I.flags & PICK) && st->greedy;
    const int inputs = op == EXPERTS_DOWN ? I.n_chosen : 1, blocks = blocks_of(I.k);
    float* part = (float*)(smem + (sizeof(Shared) + 15) / 16 * 16);
    float* xsum = part + PART_FLOATS;
    u32* planes = (u32*)(xsum + blocks * inputs);
    float* floats = (float*)(planes + (I.flags & PLANES_OF_X ? blocks * BLOCK_WORDS * inputs : 0));
    int from = 0, to = 1;
    if (op != NORM) share(I.share_q, I.share_r, from, to);
    Best best = {-__int_as_float(0x7f800000), 0x7fffffff};
    if (from < to) {
        const int step = batch_of(I);
        if (experts && threadIdx.x < 32) {
            choose_experts(I, s);
            plan_runs(I, from, min(to, from + step), plan, s);
        }
        prepare(I, inputs, xsum, planes, floats, s);
        __syncthreads();
        if (op == NORM) {
            share(I.k, from, to);
            for (int k = from + threadIdx.x; k < to; k += THREADS) I.out[k] = floats[k];
            return;
        }
        const float unit = s.unit;
#pragma unroll 1
        for (int begin = from; begin < to; begin += step) {
            const int n_runs = plan.n;
#pragma unroll 1
            for (int i = 0; i < n_runs; ++i) {
                const Run& r = plan.runs[i];
                stream(r, I.k, planes + r.input * blocks * BLOCK_WORDS, xsum + r.input * blocks, floats + r.input * blocks * 32, unit, part + r.part);
            }
            __syncthreads();
            if (op == EXPERTS_DOWN) {
                for (int r = threadIdx.x; r < plan.runs[0].rows; r += THREADS) {
                    const int row = plan.runs[0].row0 + r;
                    float v = 0.f;
                    for (int c = 0; c < n_runs; ++c) {
                        float e = row_sum(plan.runs[c], part, r);
                        if (I.bias) e += I.bias[(u64)s.chosen[c] * I.parts[0].rows + row];
                        v = fmaf(s.weight[c], e, v);
                    }
                    if (I.residual) v += shared_read(I.residual + row);
                    I.out[row] = v;
                }
            } else if (paired) {
                const int n_ff = I.parts[0].rows / (I.n_parts == 1 ? 2 : 1);
                for (int i = 0; i < n_runs; i += 2) {
                    const Run& gate = plan.runs[i];
                    const int c = op == EXPERTS_UP ? gate.expert : 0;
                    const float* bias = I.bias + (op == EXPERTS_UP ? (u64)s.chosen[c] * 2 * n_ff : 0);
                    for (int r = threadIdx.x; r < gate.rows; r += THREADS) {
                        const int row = gate.row0 + r;
                        float g = row_sum(gate, part, r), u = row_sum(plan.runs[i + 1], part, r);
                        if (I.bias) g += bias[row], u += bias[n_ff + row];
                        I.out[(u64)c * n_ff + row] = I.act == SWIGLU ? swiglu(g, u) : swiglu_oai(g, u);
                    }
                }
            } else {
                for (int i = 0; i < n_runs; ++i) {
                    const Run& run = plan.runs[i];
                    for (int r = threadIdx.x; r < run.rows; r += THREADS) {
                        const int row = run.row0 + r;
                        float residual = I.residual ? shared_read(I.residual + row) : 0.f;
                        float v = row_sum(run, part, r);
                        if (I.bias) v += I.bias[row];
                        if (I.act == GELU) v = gelu(v);
                        v += residual;
                        I.out[row] = v;
                        if (pick && row < st->vocab) {
                            float key = v == v ? v : __int_as_float(0x7f800000);   // NaN counts as the largest
                            if (better(key, row, best.value, best.index)) best.value = key, best.index = row;
                        }
                    }
                }
            }
            if (begin + step < to) {
                __syncthreads();
                if (threadIdx.x < 32) plan_runs(I, begin + step, min(to, begin + 2 * step), plan, s);
                __syncthreads();
            }
        }
    }
    if (pick) pick_largest(st, best, scratch, s);
}

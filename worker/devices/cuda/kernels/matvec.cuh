// The instructions behind most of a step: norm, product with one or several stored matrices, bias, activation, residual;
// and the same for the experts that a router chose.
#pragma once

// Bits of a float in an order that agrees with its value; 0 for what is not a number.
DEV u32 ordered(float v) {
    const u32 b = __float_as_uint(v);
    return v != v ? 0 : b & 0x80000000u ? ~b : b | 0x80000000u;
}

// The n largest of E router logits, largest first, and their softmax; ties go to the lower index. One warp; lane l holds
// logits l, l + 32, ...
DEV void choose_experts(const float (&logits)[8], int n_experts, int n_chosen, int* ids, float* weights) {
    const int lane = threadIdx.x & 31;
    u32 keys[8];                // 0: taken, or no expert; numbers have larger keys
#pragma unroll
    for (int j = 0; j < 8; ++j) keys[j] = lane + 32 * j < n_experts ? ordered(logits[j]) : 0;
    float top = 0.f, sum = 0.f, kept = 0.f;
#pragma unroll 1
    for (int c = 0; c < n_chosen; ++c) {
        u32 best = keys[0];
        int j = 0;
        float v = logits[0];
#pragma unroll
        for (int i = 1; i < 8; ++i) {
            if (32 * i >= n_experts) break;
            if (keys[i] > best) best = keys[i], j = i, v = logits[i];
        }
        const u32 most = __reduce_max_sync(FULL, best);
        int i = (int)__reduce_min_sync(FULL, best == most && most ? (u32)(lane + 32 * j) : 0xffffu);
        v = __shfl_sync(FULL, v, i & 31);
        if (i == 0xffff) i = c, v = __uint_as_float(0x7fffffffu);   // only NaN is left: stay inside the matrix
#pragma unroll
        for (int k = 0; k < 8; ++k) if (lane + 32 * k == i) keys[k] = 0;
        if (c == 0) top = v;
        const float p = expf(v - top);
        sum += p;
        if (lane == c) kept = p;
        if (lane == 0) ids[c] = i;
    }
    if (lane < n_chosen) weights[lane] = kept / sum;
    __syncwarp();
}

DEV bool is_paired(const Instruction& I) { return I.act == SWIGLU || I.act == SWIGLU_OAI; }

// What output tiles [begin, end) need, one run a lane of one warp: parts one below the other; gate and up side by side;
// gate and up of every chosen expert; one matrix of every expert. Runs go to plan.runs.
template <class P> DEV void plan_runs(const Instruction& I, int begin, int end, P& plan, const int* chosen) {
    const int lane = threadIdx.x & 31, op = I.op;
    const bool paired = is_paired(I), one = I.n_parts == 1;
    const int half = I.parts[0].groups / (one ? 2 : 1);
    int n = I.n_parts, p = lane, from = begin, to = end, expert = 0, row0 = 0, rows = 0, shift = 0, input = 0;
    if (op == EXPERTS_DOWN) {
        n = I.n_chosen, p = 0, input = lane;
        rows = I.parts[0].rows;
        if (lane < n) expert = chosen[lane];
    } else if (paired) {
        const int c = lane >> 1;
        n = op == EXPERTS_UP ? 2 * I.n_chosen : 2;
        p = one ? 0 : lane & 1;
        shift = one && (lane & 1) ? half : 0;
        rows = I.parts[0].rows / (one ? 2 : 1);
        if (op == EXPERTS_UP && lane < n) {
            expert = chosen[c];
            from = max(begin - c * half, 0), to = min(end - c * half, half);
        }
    } else if (lane < n) {
        int group0 = 0;
        for (int i = 0; i < lane; ++i) group0 += I.parts[i].groups;
        from = max(begin - group0, 0), to = min(end - group0, I.parts[lane].groups);
        rows = I.parts[lane].rows, row0 = I.parts[lane].row0;
    }
    const int groups = lane < n ? max(to - from, 0) : 0, size = groups ? groups + WARPS : 0;
    int place = size;
#pragma unroll
    for (int d = 1; d < MAX_RUNS; d <<= 1) {
        int v = __shfl_up_sync(FULL, place, d);
        if (lane >= d) place += v;
    }
    // Runs without groups are left out: the lanes with some, counted.
    const u32 some = __ballot_sync(FULL, groups > 0);
    if (groups > 0) {
        Run r;
        r.type = I.parts[p].type;
        const int height = group_rows(r.type);
        r.groups = groups;
        r.rows = min(rows - from * height, groups * height);
        r.row0 = row0 + from * height;
        r.part = (place - size) * 8;
        r.input = input;
        r.per = units_of(r.type, I.k);
        r.units = groups * r.per;
        r.inv_per = 1.f / (float)r.per;
        r.inv_units = 1.f / (float)r.units;
        r.unit = unit_bytes(r.type);
        r.chunk = CHUNK_BYTES / r.unit;
        r.stride = group_bytes(r.type, I.k);
        r.base = groups_at(I.parts[p], I.k, from + shift, expert);
        r.expert = op == EXPERTS_UP ? lane >> 1 : lane;
        plan.runs[__popc(some & ((1u << lane) - 1))] = r;
    }
    if (lane == 0) plan.n = __popc(some), plan.from = begin, plan.to = end;
}

// One warp: this block's runs of an instruction; none if it has no share.
template <class P> DEV void plan_share(const Instruction& I, P& plan, const int* chosen) {
    int from, to;
    share(I.share_q, I.share_r, from, to);
    if (from < to) plan_runs(I, I.tile0 + from, I.tile0 + to, plan, chosen);
    else if ((threadIdx.x & 31) == 0) plan.n = 0;
    __syncwarp();
}

// The r-th row of a plan's runs, taking every `step`-th run: which run (n if there are fewer) and which of its rows.
DEV int find_row(const Run* runs, int n, int step, int& r) {
    int i = 0;
    while (i < n && r >= runs[i].rows) r -= runs[i].rows, i += step;
    return i;
}

// One value of an instruction's output.
DEV void put(const Instruction& I, u64 row, float v, Sets sets) {
    if (I.flags & FINAL) I.out[row] = v;
    else publish(I.out + row, sets, v);
}

// What comes of a product that is no expert's: bias and residual were asked for before it began.
struct Addends { float bias, bias2, residual; };

DEV Addends addends(const Instruction& I, const Run& run, int r, Sets sets) {
    Addends a = {0.f, 0.f, 0.f};
    const int row = run.row0 + r;
    if (I.bias) a.bias = constant(I.bias + row);
    if (I.bias && is_paired(I)) a.bias2 = constant(I.bias + I.parts[0].rows / (I.n_parts == 1 ? 2 : 1) + row);
    if (I.residual) a.residual = glance(I.residual + sets.here + row);
    return a;
}

DEV void finish_rows(const Instruction& I, const Run* runs, int n, const float* part, float factor, Addends a, Sets sets, const Shared& s, Best& best) {
    const int step = is_paired(I) ? 2 : 1;
    int r = threadIdx.x, i = find_row(runs, n, step, r);
#pragma unroll 1
    while (i < n) {
        const Run& run = runs[i];
        const int row = run.row0 + r;
        float v = fmaf(row_sum(run, part, r), factor, a.bias);
        if (step == 2) {
            const float up = fmaf(row_sum(runs[i + 1], part, r), factor, a.bias2);
            v = I.act == SWIGLU ? swiglu(v, up) : swiglu_oai(v, up);
        } else if (I.act == GELU) v = gelu(v);
        if (I.residual) v += await(I.residual + sets.here + row, a.residual);
        put(I, row, v, sets);
        if ((I.flags & (PICK | FIRST_PICK)) && row < s.state.vocab) {
            float key = v == v ? v : __int_as_float(0x7f800000);    // NaN counts as the largest
            if (better(key, row, best.value, best.index)) best.value = key, best.index = row;
        }
        r += THREADS;
        while (i < n && r >= runs[i].rows) r -= runs[i].rows, i += step;
        if (i < n) a = addends(I, runs[i], r, sets);
    }
}

// Gate and up of the chosen experts.
DEV void finish_up(const Instruction& I, const Run* runs, int n, const float* part, float factor, Sets sets, const Shared& s) {
    const int n_ff = I.parts[0].rows / (I.n_parts == 1 ? 2 : 1);
    int r = threadIdx.x, i = find_row(runs, n, 2, r);
#pragma unroll 1
    while (i < n) {
        const Run& gate = runs[i];
        const int c = gate.expert, row = gate.row0 + r;
        float g = row_sum(gate, part, r) * factor, u = row_sum(runs[i + 1], part, r) * factor;
        if (I.bias) {
            const float* bias = I.bias + (u64)s.chosen[c] * 2 * n_ff;
            g += bias[row], u += bias[n_ff + row];
        }
        put(I, (u64)c * n_ff + row, I.act == SWIGLU ? swiglu(g, u) : swiglu_oai(g, u), sets);
        r += THREADS;
        while (i < n && r >= runs[i].rows) r -= runs[i].rows, i += 2;
    }
}

// The chosen experts' weighted sum: eight lanes a row, an expert each.
DEV void finish_down(const Instruction& I, const Run* runs, int n, const float* part, Sets sets, const Shared& s) {
    const int c = threadIdx.x & 7, rows = runs[0].rows;
#pragma unroll 1
    for (int r0 = 0; r0 < rows; r0 += THREADS / 8) {
        const int r = r0 + (threadIdx.x >> 3), row = runs[0].row0 + r;
        const bool mine = c < n && r < rows;
        float bias = 0.f, residual = 0.f, v = 0.f;
        if (mine && I.bias) bias = constant(I.bias + (u64)s.chosen[c] * I.parts[0].rows + row);
        if (r < rows && c == 0 && I.residual) residual = await(I.residual + sets.here + row);
        if (mine) v = s.weight[c] * (row_sum(runs[c], part, r) + bias);
        v += __shfl_xor_sync(FULL, v, 1);
        v += __shfl_xor_sync(FULL, v, 2);
        v += __shfl_xor_sync(FULL, v, 4);
        if (r < rows && c == 0) put(I, row, v + residual, sets);
    }
}

DEV void do_product(const Record& record, int at, Sets sets, Shared& s, Best& best) {
    const Instruction& I = record.instruction;
    const int op = I.op;
    const bool experts = op == EXPERTS_UP || op == EXPERTS_DOWN;
    const int inputs = op == EXPERTS_DOWN ? I.n_chosen : 1;
    const Vectors x(I, inputs);
    if (op != NORM && I.share_q == 0 && (int)blockIdx.x >= I.share_r) return;
    const Run* runs = op == EXPERTS_UP ? s.up.runs : op == EXPERTS_DOWN ? s.down.runs : record.plan.runs;
    Addends first = {0.f, 0.f, 0.f};
    if (op == MATVEC) {
        int r = threadIdx.x, i = find_row(runs, record.plan.n, is_paired(I) ? 2 : 1, r);
        if (i < record.plan.n) first = addends(I, runs[i], r, sets);
    }
    prepare(I, inputs, x, sets, s);
    if (experts)                // the look-ahead warp has the router's choice and made the plan
        for (u32 n = 0; ; spun(n)) {
            int known;
            asm volatile("ld.acquire.cta.shared.s32 %0, [%1];" : "=r"(known) : "r"(shared_address(&s.chosen_at)) : "memory");
            if (known >= at) break;
        }
    block_sync();
    STAMP(2);
    const float factor = rms_factor(I, s);
    if (op == NORM) {
        int from, to;
        share(I.k, from, to);
        for (int k = from + threadIdx.x; k < to; k += THREADS) put(I, k, x.floats[k] * factor, sets);
        return;
    }
    const int n_runs = op == EXPERTS_UP ? s.up.n : op == EXPERTS_DOWN ? s.down.n : record.plan.n;
    {
        Feed feed(s.taken, s.full, threadIdx.x >> 5);
#pragma unroll 1
        for (int i = 0; i < n_runs; ++i) {
            const Run& r = runs[i];
            stream(r, I.k, x.planes + r.input * x.blocks * BLOCK_WORDS, x.xsum + r.input * x.blocks, x.xscale + r.input * x.blocks / 4, x.floats + r.input * x.blocks * 32, x.part + r.part, feed);
        }
    }
    STAMP(3);
    block_sync();
    STAMP(4);
    if (op == EXPERTS_UP) finish_up(I, runs, n_runs, x.part, factor, sets, s);
    else if (op == EXPERTS_DOWN) finish_down(I, runs, n_runs, x.part, sets, s);
    else finish_rows(I, runs, n_runs, x.part, factor, first, sets, s, best);
}

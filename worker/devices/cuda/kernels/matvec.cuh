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
// gate and up of every chosen expert; one matrix of every expert. Which experts those are, the router will say.
DEV void plan_runs(const Instruction& I, int begin, int end, Plan& plan) {
    const int lane = threadIdx.x & 31, op = I.op;
    const bool paired = is_paired(I), one = I.n_parts == 1;
    const int half = I.parts[0].groups / (one ? 2 : 1);
    int n = I.n_parts, p = lane, from = begin, to = end, slot = 0, row0 = 0, rows = 0, shift = 0, input = 0;
    if (op == EXPERTS_DOWN) {
        n = I.n_chosen, p = 0, slot = input = lane;
        rows = I.parts[0].rows;
    } else if (paired) {
        n = op == EXPERTS_UP ? 2 * I.n_chosen : 2;
        p = one ? 0 : lane & 1;
        shift = one && (lane & 1) ? half : 0;
        rows = I.parts[0].rows / (one ? 2 : 1);
        if (op == EXPERTS_UP && lane < n) {
            slot = lane >> 1;
            from = max(begin - slot * half, 0), to = min(end - slot * half, half);
        }
    } else if (lane < n) {
        int group0 = 0;
        for (int i = 0; i < lane; ++i) group0 += I.parts[i].groups;
        from = max(begin - group0, 0), to = min(end - group0, I.parts[lane].groups);
        rows = I.parts[lane].rows, row0 = I.parts[lane].row0;
    }
    // Runs without groups are left out: the lanes with some, counted, have their places one behind the other.
    const int groups = lane < n ? max(to - from, 0) : 0, size = groups ? groups + WARPS : 0;
    const u32 some = __ballot_sync(FULL, groups > 0);
    int place = size;
#pragma unroll
    for (int d = 1; d < 32; d <<= 1) {
        int v = __shfl_up_sync(FULL, place, d);
        if (lane >= d) place += v;
    }
    if (groups > 0) {
        const Part& part = I.parts[p];
        Run r;
        r.type = part.type;
        const int height = group_rows(r.type);
        r.stride = group_bytes(r.type, I.k);
        r.base = part.base + (u64)(from + shift) * r.stride;
        r.expert_bytes = op == MATVEC ? 0 : part.expert_bytes;
        r.groups = groups;
        r.rows = min(rows - from * height, groups * height);
        r.row0 = row0 + from * height;
        r.part = (place - size) * 8;
        r.slot = slot, r.input = input;
        r.per = units_of(r.type, I.k);
        r.units = groups * r.per;
        r.inv_per = 1.f / (float)r.per;
        r.inv_units = 1.f / (float)r.units;
        r.unit = unit_bytes(r.type);
        r.chunk = CHUNK_BYTES / r.unit;
        plan.runs[__popc(some & ((1u << lane) - 1))] = r;
    }
    if (lane == 0) plan.n = __popc(some), plan.from = begin, plan.to = end;
}

// One warp: this block's runs of an instruction; none if it has no share.
DEV void plan_share(const Instruction& I, Plan& plan) {
    int from, to;
    share(I.share_q, I.share_r, from, to);
    if (from < to) plan_runs(I, I.tile0 + from, I.tile0 + to, plan);
    else if ((threadIdx.x & 31) == 0) plan.n = 0;
}

// A thread's row among those of every `step`-th run of a plan: run i (n if there are no more), row r of it.
struct Row {
    int i, r;
    RowSums sums;
    float bias, bias2, residual;

    DEV void find(const Run* runs, int n, int step) {
        while (i < n && r >= runs[i].rows) r -= runs[i].rows, i += step;
        if (i < n) sums = sums_of(runs[i], r);
    }
};

// Bias and residual of a row are asked for; what the residual is, is looked at later.
DEV void ask_addends(const Instruction& I, const Run& run, Row& row, int expert, Sets sets) {
    const int at = run.row0 + row.r;
    if (I.bias) {
        const int half = I.parts[0].rows / (I.n_parts == 1 ? 2 : 1);
        const float* bias = I.bias + at;
        if (I.op == EXPERTS_UP) bias += (u64)expert * 2 * half;
        row.bias = constant(bias);
        if (is_paired(I)) row.bias2 = constant(bias + half);
    }
    if (I.residual) row.residual = glance(I.residual + sets.here + at);
}

// One value of an instruction's output.
DEV void put(const Instruction& I, u64 row, float v, Sets sets) {
    if (I.flags & FINAL) I.out[row] = v;
    else publish(I.out + row, sets, v);
}

// Rows of stored matrices, or gate and up of chosen experts, from sums to output.
DEV void finish_rows(const Instruction& I, const Plan& plan, const float* part, Row row, Sets sets, const Shared& s, Best& best) {
    const int n = plan.n, step = is_paired(I) ? 2 : 1;
    const bool up = I.op == EXPERTS_UP;
    const float factor = row.i < n ? rms_factor(I, s) : 0.f;
#pragma unroll 1
    while (row.i < n) {
        const Run& run = plan.runs[row.i];
        const int at = run.row0 + row.r;
        float v = fmaf(row_sum(part + row.sums.at, row.sums.n), factor, row.bias);
        if (step == 2) {
            const float other = fmaf(row_sum(part + row.sums.at + plan.runs[row.i + 1].part - run.part, row.sums.n), factor, row.bias2);
            v = I.act == SWIGLU ? swiglu(v, other) : swiglu_oai(v, other);
        } else if (I.act == GELU) v = gelu(v);
        if (I.residual) v += await(I.residual + sets.here + at, row.residual);
        put(I, up ? (u64)run.slot * (I.parts[0].rows / (I.n_parts == 1 ? 2 : 1)) + at : at, v, sets);
        if ((I.flags & (PICK | FIRST_PICK)) && at < s.state.vocab) {
            float key = v == v ? v : __int_as_float(0x7f800000);    // NaN counts as the largest
            if (better(key, at, best.value, best.index)) best.value = key, best.index = at;
        }
        row.r += THREADS;
        row.find(plan.runs, n, step);
        if (row.i < n) ask_addends(I, plan.runs[row.i], row, up ? s.chosen[plan.runs[row.i].slot] : 0, sets);
    }
}

// The chosen experts' weighted sum: eight lanes a row, an expert each. `row` is the first row's.
DEV void finish_down(const Instruction& I, const Plan& plan, const float* part, Row row, Sets sets, const Shared& s) {
    const int c = threadIdx.x & 7, n = plan.n, rows = plan.runs[0].rows;
#pragma unroll 1
    for (int r0 = 0; r0 < rows; r0 += THREADS / 8) {
        const int r = r0 + (threadIdx.x >> 3), at = plan.runs[0].row0 + r;
        float v = 0.f;
        if (c < n && r < rows) {
            if (r0) row.sums = sums_of(plan.runs[c], r);
            if (r0 && I.bias) row.bias = constant(I.bias + (u64)s.chosen[c] * I.parts[0].rows + at);
            v = s.weight[c] * (row_sum(part + row.sums.at, row.sums.n) + row.bias);
        }
        v += __shfl_xor_sync(FULL, v, 1);
        v += __shfl_xor_sync(FULL, v, 2);
        v += __shfl_xor_sync(FULL, v, 4);
        if (c || r >= rows) continue;
        if (I.residual) v += r0 ? await(I.residual + sets.here + at) : await(I.residual + sets.here + at, row.residual);
        put(I, at, v, sets);
    }
}

// The look-ahead warp knows the chosen experts of instruction `at`.
DEV void await_choice(int at, Shared& s) {
    for (u32 n = 0; ; spun(n)) {
        int known;
        asm volatile("ld.acquire.cta.shared.s32 %0, [%1];" : "=r"(known) : "r"(shared_address(&s.chosen_at)) : "memory");
        if (known >= at) return;
    }
}

DEV void do_product(const Record& record, int at, Sets sets, Shared& s, Best& best) {
    const Instruction& I = record.instruction;
    const Plan& plan = record.plan;
    const int op = I.op, inputs = op == EXPERTS_DOWN ? I.n_chosen : 1, w = threadIdx.x >> 5;
    const Vectors x(I, inputs);
    const int n = plan.n;
    if (n == 0 && op != NORM) return;
    // All that can be known before x is there: the warp's share of the weights, the thread's row of the output.
    Stretch mine = {0, 0, 0};
    if (n) mine = stretch_of(plan.runs[0], w);
    Row row = {0, (int)threadIdx.x, {0, 0}, 0.f, 0.f, 0.f};
    if (op == EXPERTS_DOWN) {
        const int c = threadIdx.x & 7, r = threadIdx.x >> 3, to = plan.runs[0].row0 + r;
        await_choice(at, s);
        if (c < n && r < plan.runs[0].rows) {
            row.sums = sums_of(plan.runs[c], r);
            if (I.bias) row.bias = constant(I.bias + (u64)s.chosen[c] * I.parts[0].rows + to);
            if (I.residual && c == 0) row.residual = glance(I.residual + sets.here + to);
        }
    } else {
        row.find(plan.runs, n, is_paired(I) ? 2 : 1);
        if (op == MATVEC && row.i < n) ask_addends(I, plan.runs[row.i], row, 0, sets);
    }
    prepare(I, inputs, x, sets, s);
    if (op == EXPERTS_UP) {
        await_choice(at, s);
        if (row.i < n) ask_addends(I, plan.runs[row.i], row, s.chosen[plan.runs[row.i].slot], sets);
    }
    block_sync();
    STAMP(2);
    if (op == NORM) {
        const float factor = rms_factor(I, s);
        int from, to;
        share(I.k, from, to);
        for (int k = from + threadIdx.x; k < to; k += THREADS) put(I, k, x.floats()[k] * factor, sets);
        return;
    }
    {
        Feed feed(s.taken, s.full, w);
        int units = plan.runs[0].units;
#pragma unroll 1
        for (int i = 0; i < n; ++i) {
            const Run& r = plan.runs[i];
            if (r.units != units) units = r.units, mine = stretch_of(r, w);
            stream(r, mine, I.k, x.planes() + r.input * x.blocks * BLOCK_WORDS, x.xsum() + r.input * x.blocks, x.xscale() + r.input * x.blocks / 4, x.floats() + r.input * x.blocks * 32, sums_at() + r.part, feed);
        }
    }
    STAMP(3);
    block_sync();
    STAMP(4);
    if (op == EXPERTS_DOWN) finish_down(I, plan, sums_at(), row, sets, s);
    else finish_rows(I, plan, sums_at(), row, sets, s, best);
}

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
    const int lane = thread() & 31;
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
    const int lane = thread() & 31, op = I.op;
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
    // Rows of output: pairs count once, experts' sums too.
    int count = groups > 0 && !(paired && (lane & 1)) && !(op == EXPERTS_DOWN && lane) ? min(rows - from * group_rows(I.parts[p].type), groups * group_rows(I.parts[p].type)) : 0;
#pragma unroll
    for (int d = 16; d; d >>= 1) count += __shfl_xor_sync(FULL, count, d);
    if (lane == 0) plan.n = __popc(some), plan.rows = count;
}

// One warp: this block's runs of an instruction; none if it has no share.
DEV void plan_share(const Instruction& I, Plan& plan) {
    int from, to;
    share(I.share_q, I.share_r, from, to);
    if (from < to) plan_runs(I, I.tile0 + from, I.tile0 + to, plan);
    else if ((thread() & 31) == 0) plan.n = plan.rows = 0;
}

// The r-th row of every `step`-th run of a plan, fewer than plan.rows: which run, and r the row of it.
DEV int find_row(const Plan& plan, int step, int& r) {
    int i = 0;
    while (r >= plan.runs[i].rows) r -= plan.runs[i].rows, i += step;
    return i;
}

// Everything about row r of run i that does not need the product. `direct`: bias and residual are waited for.
DEV void find_out(const Record& record, int i, int r, bool direct, Kept& kept) {
    const Instruction& I = record.instruction;
    const Run& run = record.plan.runs[i];
    const RowSums sums = sums_of(run, r);
    const bool paired = is_paired(I);
    const int row = run.row0 + r, half = I.parts[0].rows / (I.n_parts == 1 ? 2 : 1);
    const float *bias = I.bias ? I.bias + row : 0, *residual = I.residual ? I.residual + block().sets.here + row : 0;
    float* out = I.out + row;
    if (I.op == EXPERTS_UP) {
        if (bias) bias += (u64)block().chosen[run.slot] * 2 * half;
        out += (u64)run.slot * half;
    }
    if (I.op == EXPERTS_DOWN) {
        if (bias) bias += (u64)block().chosen[run.slot] * I.parts[0].rows;
        if (i) residual = 0;
    }
    kept.at = sums.at, kept.n = sums.n, kept.pair_at = paired ? sums.at + record.plan.runs[i + 1].part - run.part : -1;
    kept.act = I.act, kept.row = row, kept.residual_at = residual;
    kept.here = I.flags & FINAL ? out : out + block().sets.here, kept.there = I.flags & FINAL ? 0 : out + block().sets.there;
    kept.bias = kept.pair_bias = kept.residual = 0.f;
    if (direct) {
        if (bias) kept.bias = constant(bias);
        if (bias && paired) kept.pair_bias = constant(bias + half);
        if (residual) kept.residual = await(residual);
    } else {
        if (bias) ask_for(&kept.bias, bias);
        if (bias && paired) ask_for(&kept.pair_bias, bias + half);
        if (residual) ask_for(&kept.residual, residual);
    }
}

DEV void put(const Kept& kept, float v) {
    if (kept.there) publish(kept.here, kept.there, v);
    else *kept.here = v;
}

// What can be known of a product before its x is there: warps' shares of the weights, and all about the first rows. Threads
// from `first` on, at least KEPT.
DEV void find_out_first(int at, int slot, int first) {
    const Record& record = record_at(at);
    const bool down = record.instruction.op == EXPERTS_DOWN;
    const int t = thread() - first;
    if (t < 0 || t >= KEPT) return;
    if (t < WARPS) block().stretch[slot][t] = stretch_of(record.plan.runs[0], t);
    int r = down ? t >> 3 : t, i = down ? t & 7 : 0;
    if (r >= record.plan.rows || i >= record.plan.n) return;
    if (!down) i = find_row(record.plan, is_paired(record.instruction) ? 2 : 1, r);
    find_out(record, i, r, false, block().kept[slot][t]);
}

// While the first warps finish a product, others find out about the next if it follows at once. Attention is not kept
// waiting for that: the product behind it has time for it while its x is still on its way.
DEV void find_out_next(int at, int slot) {
    const int next = at + 1;
    if (thread() < KEPT || next >= block().count) return;
    barrier_wait(block().arrived + next % RECORDS, next / RECORDS);
    const Record& record = record_at(next);
    if (record.instruction.op != MATVEC || record.plan.n == 0) return;
    if (thread() == KEPT) block().found[slot ^ 1] = next;
    find_out_first(next, slot ^ 1, KEPT);
}

// Rows of stored matrices, or gate and up of chosen experts, from sums to output.
CALL void finish_rows(int instruction, int slot) {
    const Record& record = record_at(instruction);
    const float* sums = sums_at();
    const float factor = block().factor;
    const bool picks = record.instruction.flags & (PICK | FIRST_PICK);
    float best = -__int_as_float(0x7f800000);
    int best_row = 0x7fffffff;
    const int rows = record.plan.rows;
#pragma unroll 1
    for (int place = thread(); place < rows; place += THREADS) {
        Kept row;
        if (place < KEPT) row = block().kept[slot][place];
        else {
            int r = place;
            const int i = find_row(record.plan, is_paired(record.instruction) ? 2 : 1, r);
            find_out(record, i, r, true, row);
        }
        float v = fmaf(row_sum(sums + row.at, row.n), factor, row.bias);
        if (row.pair_at >= 0) {
            const float other = fmaf(row_sum(sums + row.pair_at, row.n), factor, row.pair_bias);
            v = row.act == SWIGLU ? swiglu(v, other) : swiglu_oai(v, other);
        } else if (row.act == GELU) v = gelu(v);
        if (row.residual_at) v += await(row.residual_at, row.residual);
        put(row, v);
        STAMP(6);
        if (picks && row.row < block().state.vocab) {
            float key = v == v ? v : __int_as_float(0x7f800000);    // NaN counts as the largest
            if (better(key, row.row, best, best_row)) best = key, best_row = row.row;
        }
    }
    if (picks) {
        __syncwarp();
        merge_best(best, best_row);
    }
    find_out_next(instruction, slot);
}

// The chosen experts' weighted sum: eight lanes a row, an expert each.
CALL void finish_down(int instruction, int slot) {
    const Record& record = record_at(instruction);
    const int c = thread() & 7, n = record.plan.n, rows = record.plan.rows;
#pragma unroll 1
    for (int r0 = 0; r0 < rows; r0 += THREADS / 8) {
        const int r = r0 + (thread() >> 3), place = thread() + r0 * 8;
        Kept row;
        float v = 0.f;
        if (c < n && r < rows) {
            if (place < KEPT) row = block().kept[slot][place];
            else find_out(record, c, r, true, row);
            v = block().weight[c] * (row_sum(sums_at() + row.at, row.n) + row.bias);
        }
        v += __shfl_xor_sync(FULL, v, 1);
        v += __shfl_xor_sync(FULL, v, 2);
        v += __shfl_xor_sync(FULL, v, 4);
        if (c || r >= rows) continue;
        if (row.residual_at) v += await(row.residual_at, row.residual);
        put(row, v);
    }
    find_out_next(instruction, slot);
}

// The look-ahead warp knows the chosen experts of instruction `at`.
DEV void await_choice(int at) {
    for (u32 n = 0; ; spun(n)) {
        int known;
        asm volatile("ld.acquire.cta.shared.s32 %0, [%1];" : "=r"(known) : "r"(shared_address(&block().chosen_at)) : "memory");
        if (known >= at) return;
        __nanosleep(40);
    }
}

DEV void do_product(int at) {
    const Record& record = record_at(at);
    const Instruction& I = record.instruction;
    const Plan& plan = record.plan;
    const int inputs = I.op == EXPERTS_DOWN ? I.n_chosen : 1;
    const Vectors x(I, inputs);
    if (plan.n == 0 && I.op != NORM) return;
    if (I.op == EXPERTS_DOWN) await_choice(at);
    const int slot = here().slot ^ 1;
    __syncwarp();
    if ((thread() & 31) == 0) here().slot = slot;
    const bool found = block().found[slot] == at;
    if (plan.n && !found && I.op != EXPERTS_UP) find_out_first(at, slot, THREADS - KEPT);
    prepare(I, inputs, x);
    if (I.op == EXPERTS_UP) {
        await_choice(at);
        find_out_first(at, slot, 0);
    }
    block_sync();
    STAMP(2);
    if (I.op == NORM) {
        const float factor = rms_factor(I);
        int from, to;
        share(I.k, from, to);
        for (int k = from + thread(); k < to; k += THREADS) publish(I.out + k, block().sets, x.floats()[k] * factor);
        return;
    }
    {
        const int w = thread() >> 5;
        int units = plan.runs[0].units;
        // A warp with the least to do brings the norm's factor to the others, who need it behind the next barrier.
        if (w == (units < WARPS ? WARPS - 1 : 0)) {
            const float factor = rms_factor(I);
            if ((thread() & 31) == 0) block().factor = factor;
        }
        Feed feed(w);
        Stretch mine = block().stretch[slot][w];
#pragma unroll 1
        for (int i = 0; i < plan.n; ++i) {
            const Run& r = plan.runs[i];
            if (r.units != units) units = r.units, mine = stretch_of(r, w);
            stream(r, mine, I.k, x.planes() + r.input * x.blocks * BLOCK_WORDS, x.xsum() + r.input * x.blocks, x.xscale() + r.input * x.blocks / 4, x.floats() + r.input * x.blocks * 32, sums_at() + r.part, feed);
        }
    }
    asked_are_here();
    STAMP(3);
    block_sync();
    STAMP(4);
    if (I.op == EXPERTS_DOWN) finish_down(at, slot);
    else finish_rows(at, slot);
}

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
    const int units = groups * (lane < n ? units_of(I.parts[p].type, I.k) : 0);
    int before = units;
#pragma unroll
    for (int d = 1; d < 32; d <<= 1) {
        int v = __shfl_up_sync(FULL, before, d);
        if (lane >= d) before += v;
    }
    const int total = __shfl_sync(FULL, before, 31);
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
        r.units = units, r.before = before - units, r.total = total;
        r.inv_per = 1.f / (float)r.per;
        r.inv_total = 1.f / (float)total;
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
    if (is_up(I)) {
        if (bias) bias += (u64)block().chosen[run.slot] * 2 * half;
        out += (u64)run.slot * half;
    }
    if (is_down(I)) {
        if (bias) bias += (u64)block().chosen[run.slot] * I.parts[0].rows;
        if (i) residual = 0;
    }
    kept.at = sums.at, kept.n = sums.n, kept.pair_at = -1;
    if (paired) {
        const RowSums pair = sums_of(record.plan.runs[i + 1], r);
        kept.pair_at = pair.at, kept.pair_n = pair.n;
    }
    kept.act = I.act, kept.row = row, kept.residual_at = residual;
    kept.here = I.flags & FINAL ? out : out + block().sets.to, kept.there = I.flags & FINAL ? 0 : out + block().sets.there;
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
    if (kept.there) publish(kept.here, kept.there, block().sets.stride, v);
    else *kept.here = v;
}

// What can be known of a product's first rows before its x is there; the last KEPT threads.
DEV void find_out_first(const Record& record, Kept* kept) {
    const bool down = is_down(record.instruction);
    const int t = thread() - (THREADS - KEPT);
    if (t < 0) return;
    int r = down ? t >> 3 : t, i = down ? t & 7 : 0;
    if (r >= record.plan.rows || i >= record.plan.n) return;
    if (!down) i = find_row(record.plan, is_paired(record.instruction) ? 2 : 1, r);
    find_out(record, i, r, false, kept[t]);
}

// A row's value behind its product; pair: of the row beside it, where there is one.
DEV float activated(int act, float v, float pair) {
    return act == SWIGLU ? swiglu(v, pair) : act == SWIGLU_OAI ? swiglu_oai(v, pair) : act == GELU ? gelu(v) : v;
}

// The rows that nothing is kept of, and the largest of all; finish_rows has left the values of the others in `residual`.
CALL void finish_more(int instruction) {
    const Record& record = record_at(instruction);
    const bool picks = record.instruction.flags & (PICK | FIRST_PICK);
    const int rows = record.plan.rows, vocab = block().state.vocab;
    const float factor = block().factor;
    float best = -__int_as_float(0x7f800000);
    int best_row = 0x7fffffff;
#pragma unroll 1
    for (int place = thread(); place < rows; place += THREADS) {
        Kept row;
        float v;
        if (place < KEPT) {
            const Kept& kept = block().kept[here().slot][place];
            row.row = kept.row, v = kept.residual;
        } else {
            int r = place;
            const int i = find_row(record.plan, is_paired(record.instruction) ? 2 : 1, r);
            find_out(record, i, r, true, row);
            const float pair = row.pair_at >= 0 ? fmaf(row_sum(sums_at() + row.pair_at, row.pair_n), factor, row.pair_bias) : 0.f;
            v = activated(row.act, fmaf(row_sum(sums_at() + row.at, row.n), factor, row.bias), pair);
            if (row.residual_at) v += await(row.residual_at, row.residual);
            put(row, v);
        }
        if (picks && row.row < vocab) {
            float key = v == v ? v : __int_as_float(0x7f800000);    // NaN counts as the largest
            if (better(key, row.row, best, best_row)) best = key, best_row = row.row;
        }
    }
    if (picks) {
        __syncwarp();
        merge_best(best, best_row);
    }
}

// Behind the product: what is known of a thread's row is at hand before all warps are done.
DEV void finish_rows(const Record& record) {
    const int rows = record.plan.rows, place = thread();
    Kept& kept = block().kept[here().slot][min(place, KEPT - 1)];
    const int at = kept.at, n = kept.n, pair_at = kept.pair_at, pair_n = kept.pair_n;
    const float* residual_at = kept.residual_at;
    float *const here = kept.here, *const there = kept.there;
    block_sync();
    STAMP(4);
    if (place < min(rows, KEPT)) {
        const float factor = block().factor;
        const float pair = pair_at >= 0 ? fmaf(row_sum(sums_at() + pair_at, pair_n), factor, kept.pair_bias) : 0.f;
        float v = activated(kept.act, fmaf(row_sum(sums_at() + at, n), factor, kept.bias), pair);
        if (residual_at) v += await(residual_at, kept.residual);
        if (there) publish(here, there, block().sets.stride, v);
        else *here = v;
        kept.residual = v;
        STAMP(6);
    }
}

// The chosen experts' weighted sum: eight lanes a row, an expert each.
CALL void finish_down(int instruction) {
    block_sync();
    STAMP(4);
#pragma unroll 1
    for (int r0 = 0; r0 < record_at(instruction).plan.rows; r0 += THREADS / 8) {
        const Record& record = record_at(instruction);
        const int c = thread() & 7, r = r0 + (thread() >> 3), place = thread() + r0 * 8;
        const bool mine = c < record.plan.n && r < record.plan.rows;
        Kept row;
        float v = 0.f;
        if (mine) {
            if (place < KEPT) row = block().kept[here().slot][place];
            else find_out(record, c, r, true, row);
            v = block().weight[c] * (row_sum(sums_at() + row.at, row.n) + row.bias);
        }
        v += __shfl_xor_sync(FULL, v, 1);
        v += __shfl_xor_sync(FULL, v, 2);
        v += __shfl_xor_sync(FULL, v, 4);
        if (c || !mine) continue;
        if (row.residual_at) v += await(row.residual_at, row.residual);
        put(row, v);
    }
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
    if (is_down(I)) await_choice(at);
    const int w = thread() >> 5, slot = here().slot ^ 1;
    __syncwarp();
    if ((thread() & 31) == 0) here().slot = slot;
    if (plan.n && !is_up(I)) find_out_first(record, block().kept[slot]);
    Feed feed(w);
    Stretch mine = {0, 0, 0};
    if (plan.n) mine = stretch_of(plan.runs[0], w);
    if (!((I.flags & JOINED) && span_of(I, block().state).splits > 1)) {
        const int inputs = is_down(I) ? I.n_chosen : 1;
        prepare(I, inputs, Vectors(I, inputs));
    }
    if (is_up(I)) {
        await_choice(at);
        find_out_first(record, block().kept[slot]);
    }
    block_sync();
    STAMP(2);
    if (DOES(NORM) && I.op == NORM) {
        const float factor = rms_factor(I);
        int from, to;
        share(I.k, from, to);
        for (int k = from + thread(); k < to; k += THREADS) publish(I.out + k, block().sets, Vectors(I, 1).floats()[k] * factor);
        return;
    }
    // A warp with the least to do brings the norm's factor to the others, who need it behind the next barrier.
    if (w == (plan.runs[0].total < WARPS ? WARPS - 1 : 0)) {
        const float factor = rms_factor(I);
        if ((thread() & 31) == 0) block().factor = factor;
    }
#pragma unroll 1
    for (int i = 0; ; ) {
        const Run& r = plan.runs[i];
        if (mine.n) {
            const Vectors x(I, is_down(I) ? I.n_chosen : 1);
            stream(r, mine, I.k, x.planes() + r.input * x.blocks * BLOCK_WORDS, x.xsum() + r.input * x.blocks, x.xscale() + r.input * x.blocks / 4, x.floats() + r.input * x.blocks * 32, sums_at() + r.part, feed);
        }
        if (++i == plan.n) break;
        mine = stretch_of(plan.runs[i], thread() >> 5);
    }
    asked_are_here();
    STAMP(3);
    if (!is_down(record_at(here().at).instruction)) finish_rows(record_at(here().at));
}

// The instruction behind most of a step: norm, product, bias, activation, residual.
#pragma once

// Part p's share of output octets [begin, end), counted over all parts; false if it has none.
DEV bool part_run(const Instruction& I, int p, int begin, int end, Run& run, int& row0) {
    int octet0 = 0;
    for (int i = 0; i < p; ++i) octet0 += I.parts[i].octets;
    int a = max(begin - octet0, 0), b = min(end - octet0, I.parts[p].octets);
    if (a >= b) return false;
    run = run_of(I.parts[p], I.k, a, b, 0);
    row0 = I.parts[p].row0 + a * 8;
    return true;
}

// Octets [begin, end) of the gate and the same of up, from two matrices or from the halves of one.
DEV void pair_runs(const Instruction& I, int begin, int end, int expert, Run& gate, Run& up, int& n_ff) {
    const bool one = I.n_parts == 1;
    const int half = I.parts[0].octets / (one ? 2 : 1);
    n_ff = I.parts[0].rows / (one ? 2 : 1);
    gate = run_of(I.parts[0], I.k, begin, end, expert);
    up = run_of(I.parts[one ? 0 : 1], I.k, begin + (one ? half : 0), end + (one ? half : 0), expert);
    gate.rows = min(gate.rows, n_ff - begin * 8);
}

CALL void do_matvec(const Instruction& I, State* st, const Memory& m, Shared& s, Best* scratch) {
    const bool paired = I.act == SWIGLU || I.act == SWIGLU_OAI, pick = (I.flags & 8) && st->greedy;
    int from, to;
    share(I.tiles, from, to);
    Best best = {-__int_as_float(0x7f800000), 0x7fffffff};
    if (from < to) {
        const float unit = prepare(I, I.x, m, m.planes, s);
        const int step = paired ? BATCH_OCTETS / 2 : BATCH_OCTETS;
        for (int begin = from; begin < to; begin += step) {
            const int end = min(to, begin + step);
            float* part = m.part;
            if (paired) {
                Run gate, up;
                int n_ff;
                pair_runs(I, begin, end, 0, gate, up, n_ff);
                float* part2 = part + (gate.octets + WARPS) * 8;
                stream(gate, I.k, m, unit, part);
                stream(up, I.k, m, unit, part2);
                __syncthreads();
                for (int r = threadIdx.x; r < gate.rows; r += THREADS) {
                    const int row = begin * 8 + r;
                    float g = row_sum(gate, I.k, part, r), u = row_sum(up, I.k, part2, r);
                    if (I.bias) g += I.bias[row], u += I.bias[n_ff + row];
                    I.out[row] = I.act == SWIGLU ? swiglu(g, u) : swiglu_oai(g, u);
                }
            } else {
                Run run;
                int row0;
                for (int p = 0; p < I.n_parts; ++p)
                    if (part_run(I, p, begin, end, run, row0)) {
                        stream(run, I.k, m, unit, part);
                        part += (run.octets + WARPS) * 8;
                    }
                __syncthreads();
                part = m.part;
                for (int p = 0; p < I.n_parts; ++p)
                    if (part_run(I, p, begin, end, run, row0)) {
                        for (int r = threadIdx.x; r < run.rows; r += THREADS) {
                            const int row = row0 + r;
                            float v = row_sum(run, I.k, part, r);
                            if (I.bias) v += I.bias[row];
                            if (I.act == GELU) v = gelu(v);
                            if (I.residual) v += shared_read(I.residual + row);
                            I.out[row] = v;
                            if (pick && row < st->vocab) {
                                float key = v == v ? v : __int_as_float(0x7f800000);   // NaN counts as the largest
                                if (better(key, row, best.value, best.index)) best.value = key, best.index = row;
                            }
                        }
                        part += (run.octets + WARPS) * 8;
                    }
            }
            __syncthreads();
        }
    }
    if (pick) pick_largest(st, best, scratch, s);
}

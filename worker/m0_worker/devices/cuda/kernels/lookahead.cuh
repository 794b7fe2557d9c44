// The warp that looks ahead: it brings instructions and plans, keeps the rings full, and chooses the experts as soon as
// their router has spoken. Lane w cares for the ring of warp w.
#pragma once

// Where a lane's warp is in the program, as far as its chunks are asked for.
struct Cursor {
    int at, run;                // instruction and run; run -1: the instruction is new
    int left, i;                // units left of the warp's share of the run; floats: unit of the row
    const u8* source;
    Taken asked;
};

// One chunk, if the ring has room: whether.
DEV bool ask(Cursor& c, const Run& r, int lane) {
    Shared& s = block();
    const bool floats = is_float(r.type);
    const int n = min(min(r.chunk, c.left), floats ? r.per - c.i : c.left);
    const u32 size = floats ? min(n * r.unit, r.stride - c.i * r.unit) : n * r.unit;
    u32 bytes = c.asked.bytes;
    const u32 place = ring_place(bytes, size);
    bytes += ring_charge(size);
    if (bytes - *(volatile u32*)&s.taken[lane].bytes > RING_BYTES) return false;
    u64* barrier = s.full + lane * RING_CHUNKS + c.asked.chunks % RING_CHUNKS;
    barrier_expect(barrier, size);
    bulk_copy_once(shared_address(smem) + RING_AT + lane * RING_BYTES + place, c.source, size, barrier);
    c.asked.bytes = bytes;
    ++c.asked.chunks;
    c.source += size;
    c.left -= n;
    c.i += n;
    if (floats && c.i == r.per) c.i = 0;
    return true;
}

// The router's choice for the expert instructions `at` and at + 1: false if logits are missing.
DEV bool choose(int at) {
    Shared& s = block();
    const Instruction& I = record_at(at).instruction;
    const int lane = threadIdx.x & 31;
    float logits[8];
    bool missing = false;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
        logits[j] = 0.f;
        if (lane + 32 * j < I.n_experts) logits[j] = glance(I.x2 + s.sets.here + lane + 32 * j), missing |= armed(logits[j]);
    }
    if (__any_sync(FULL, missing)) return false;
    choose_experts(logits, I.n_experts, I.n_chosen, s.chosen, s.weight);
    if (lane == 0) asm volatile("st.release.cta.shared.s32 [%0], %1;" :: "r"(shared_address(&s.chosen_at)), "r"(at + 1) : "memory");
    __syncwarp();
    return true;
}

CALL void look_ahead(const Instruction* program, const Plan* plans, int count) {
    Shared& s = block();
    const int lane = threadIdx.x & 31;
    Cursor c = {lane < WARPS ? 0 : count, -1, 0, 0, 0, {0, 0}};
    int asked = 0, here = 0, chosen_at = -1;    // records asked for, records that have arrived
    u32 idle = 0;
#pragma unroll 1
    for (;;) {
        // A record's place is free once the block and all cursors are past the one that was there.
        const int oldest = min(*(volatile int*)&s.at, (int)__reduce_min_sync(FULL, (u32)c.at));
        while (asked < count && asked < oldest + RECORDS - 1) {
            if (lane == 0) {
                Record& record = s.records[asked % RECORDS];
                u64* barrier = s.arrived + asked % RECORDS;
                barrier_expect(barrier, sizeof(Record));
                bulk_copy(&record.instruction, program + asked, sizeof(Instruction), barrier);
                bulk_copy(&record.plan, plans + asked * gridDim.x + blockIdx.x, sizeof(Plan), barrier);
            }
            ++asked;
        }
        while (here < asked && __all_sync(FULL, barrier_done(s.arrived + here % RECORDS, here / RECORDS))) {
            const Instruction& I = s.records[here % RECORDS].instruction;
            if (I.norm != NO_NORM && blockIdx.x % 16 == 0 && lane == 0)
                asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" :: "l"(I.norm_w), "r"(I.k * 4) : "memory");
            if (I.op == ATTEND && lane == 0) prefetch_cache(I);
            ++here;
        }
        bool moved = false;
        int waits = 0x7fffffff;                 // for its router
        if (c.at < count) {
            const Record& record = s.records[c.at % RECORDS];
            const Run* runs = record.plan.runs;
            if (c.left == 0 && c.at < here) {
                const bool routed = is_up(record.instruction) || is_down(record.instruction);
                if (routed && chosen_at < c.at) waits = c.at;
                else {
                    moved = true;
                    if (++c.run < record.plan.n) {
                        const Run& r = runs[c.run];
                        const Stretch mine = stretch_of(r, lane);
                        c.left = mine.n, c.i = mine.unit;
                        c.source = r.base + (u64)mine.group * r.stride + mine.unit * r.unit;
                        if (routed) c.source += s.chosen[r.slot] * r.expert_bytes;
                    } else ++c.at, c.run = -1;
                }
            }
            if (c.left > 0) moved |= ask(c, runs[c.run], lane);
        }
        const int router = (int)__reduce_min_sync(FULL, (u32)waits);
        if (DOES(EXPERTS_UP) && router < here)
            for (int tries = __any_sync(FULL, moved) ? 1 : 8; tries; --tries)
                if (choose(router)) {
                    chosen_at = router + 1, moved = true;
                    break;
                }
        if (asked == count && __all_sync(FULL, c.at >= count)) break;
        if (__any_sync(FULL, moved)) idle = 0;
        else {
            __nanosleep(20);
            spun(idle);
        }
    }
}

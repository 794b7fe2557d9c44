// The end of a step: the drawn token becomes the next step's input.
#pragma once

DEV void advance(State* st, int token, bool finite) {
    int n = st->drawn;
    if (!finite) st->status = 1;
    st->token = token;
    Result r = {token, n + 1, st->status, st->position + 1};
    st->results[n % RING] = r;
    st->seen[token] = 1;
    st->position += 1;
    st->drawn = n + 1;
}

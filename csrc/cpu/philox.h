#pragma once
#include <cstdint>

#include "../common/philox.h"
#include "isa.h"

ASMA_DECLARE_KERNEL(
    // words: (rows, columns) int64, word 0 of the block at (element = column, row), for rows [begin, end).
    void philox(::asma::Philox random, int64_t* words, int64_t columns, int64_t begin, int64_t end);)

#pragma once
#include <cstdint>

#include "../common/philox.h"
#include "../common/scalar.h"
#include "../common/token_mask.h"
#include "isa.h"

ASMA_DECLARE_KERNEL(
    // noise: (N, L) or null: drawn; ids_keep: (N, keep); ids_restore, mask: (N, L), contiguous; rows [begin, end).
    template <class T> void token_mask(const ::asma::TokenMask& a, ::asma::Philox random, const T* score,
                                       const ::asma::acc_t<T>* noise, int64_t* ids_keep, int64_t* ids_restore, T* mask,
                                       int64_t begin, int64_t end);)

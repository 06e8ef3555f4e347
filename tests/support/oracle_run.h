// OracleRun: what a Generate request on the oracle model must give, computed one token at a time without
// engine, batch, slots or scheduler. Stop strings are left out.
#ifndef MAMBAD_TESTS_SUPPORT_ORACLE_RUN_H_
#define MAMBAD_TESTS_SUPPORT_ORACLE_RUN_H_

#include <cstdint>
#include <vector>

#include "engine/request.h"
#include "engine/token_event.h"
#include "tests/support/oracle_model.h"

namespace mambad {

struct OracleRun {
  OracleRun(OracleState start_state, const GenerationRequest& request, uint64_t seed, uint32_t candidate = 0);

  // The state that has consumed the prompt and the first `count` emitted tokens.
  const OracleState& StateAfter(size_t count) const { return states.at(count); }
  // The state when the turn has ended well: an ending EOS or stop token is only consumed on request.
  const OracleState& FinalState() const { return states.at(consumed_tokens); }

  OracleState start;
  std::vector<uint32_t> tokens;     // all that are emitted
  std::vector<OracleState> states;  // states[k] has consumed the prompt and k tokens
  FinishReason reason = FinishReason::kLength;
  size_t consumed_tokens = 0;
  bool prompt_poisoned = false;
};

}  // namespace mambad

#endif  // MAMBAD_TESTS_SUPPORT_ORACLE_RUN_H_

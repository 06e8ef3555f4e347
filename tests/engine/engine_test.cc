#include "engine/engine.h"

#include <gtest/gtest.h>

#include "tests/support/oracle_model.h"

namespace mambad {
namespace {
TEST(EngineTest, Smoke) {
  auto model = std::make_shared<OracleModel>();
  auto engine = Engine::Create(model, nullptr, {.state_slots = 4});
  ASSERT_TRUE(engine.ok()) << engine.status();
  auto sink = std::make_shared<TokenSink>(16, nullptr);
  GenerationRequest request;
  request.prompt = {1, 2, 3};
  request.stop.max_output_tokens = 5;
  ASSERT_TRUE((*engine)->Submit(request, sink).ok());
  absl::Time now = absl::UnixEpoch();
  for (int i = 0; i < 10; ++i) (*engine)->Tick(now);
  int events = 0;
  while (auto e = sink->Pop()) {
    ++events;
    printf("%zu ", e->index());
  }
  EXPECT_EQ(events, 8);
}
}  // namespace
}  // namespace mambad

#include "engine/session/session_table.h"

#include <gtest/gtest.h>

#include "engine/error.h"
#include "tests/support/oracle_model.h"

namespace mambad {
namespace {

class SessionTableTest : public testing::Test {
 protected:
  SessionTableTest()
      : pool_(NewPool(model_)), table_({.sessions_max = 40, .ttl_default = absl::Hours(1), .seed = 3}) {}
  ~SessionTableTest() override {
    while (Session* session = table_.First()) table_.Erase(*session);
  }

  static std::unique_ptr<StatePool> NewPool(OracleModel& model) {
    return *StatePool::Create(model.device(), model.state_layout(), 64, true);
  }
  Session& Add(const std::string& id, absl::Duration ttl = absl::Minutes(1)) {
    return table_.Insert({.id = id, .ttl = ttl}, *pool_->Allocate(), now_);
  }
  std::string FieldOf(const CreateSessionRequest& request) {
    return DetailOf(table_.MayInsert(request)).field;
  }

  OracleModel model_;
  std::unique_ptr<StatePool> pool_;
  SessionTable table_;
  absl::Time now_ = absl::FromUnixSeconds(100);
};

TEST_F(SessionTableTest, ChecksIdsLabelsAndTtl) {
  EXPECT_EQ(FieldOf({.id = "a.b_c-9"}), "");
  EXPECT_EQ(FieldOf({.id = std::string(128, 'a')}), "");
  for (const std::string& id :
       {std::string(129, 'a'), std::string("A"), std::string("-a"), std::string(".a"), std::string("a/b"),
        std::string("a b"), std::string("é"), std::string("a\0", 2)}) {
    EXPECT_EQ(FieldOf({.id = id}), "session_id") << id;
  }
  EXPECT_EQ(FieldOf({.labels = {{"", "v"}}}), "session.labels");
  EXPECT_EQ(FieldOf({.labels = {{std::string(64, 'k'), "v"}}}), "session.labels");
  EXPECT_EQ(FieldOf({.labels = {{"k", std::string(64, 'v')}}}), "session.labels");
  std::map<std::string, std::string> labels;
  for (int i = 0; i < 33; ++i) labels["k" + std::to_string(i)] = "v";
  EXPECT_EQ(FieldOf({.labels = labels}), "session.labels");
  labels.erase("k0");
  EXPECT_EQ(FieldOf({.labels = labels}), "");
  EXPECT_EQ(FieldOf({.ttl = absl::Milliseconds(999)}), "session.ttl");
  EXPECT_EQ(FieldOf({.ttl = absl::Hours(24 * 365) + absl::Seconds(1)}), "session.ttl");
  EXPECT_EQ(FieldOf({.ttl = absl::Hours(24 * 365)}), "");
  EXPECT_EQ(FieldOf({.state_seed = 1}), "session.state_seed");
}

TEST_F(SessionTableTest, RefusesATakenIdAndMoreThanItMayHold) {
  Add("a");
  EXPECT_TRUE(absl::IsAlreadyExists(table_.MayInsert({.id = "a"})));
  for (int i = 1; i < 40; ++i) Add("");
  EXPECT_EQ(table_.size(), 40u);
  EXPECT_TRUE(absl::IsResourceExhausted(table_.MayInsert({.id = "b"})));
}

TEST_F(SessionTableTest, MakesIdsThatAreValidAndDistinct) {
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(IsSessionId(Add("").id));
  EXPECT_EQ(table_.size(), 20u);
}

TEST_F(SessionTableTest, ListsInOrderOfIdPageByPage) {
  for (const char* id : {"d", "b", "a", "c", "e"}) Add(id);
  std::string ids;
  std::string token;
  do {
    const absl::StatusOr<SessionPage> page = table_.List({.page_size = 2, .page_token = token});
    ASSERT_TRUE(page.ok());
    EXPECT_LE(page->sessions.size(), 2u);
    for (const SessionInfo& info : page->sessions) ids += info.id;
    token = page->next_page_token;
  } while (!token.empty());
  EXPECT_EQ(ids, "abcde");
}

TEST_F(SessionTableTest, PageTokensOutliveTheSessionTheyStoodAt) {
  for (const char* id : {"a", "b", "c", "d"}) Add(id);
  const std::string token = table_.List({.page_size = 2})->next_page_token;
  table_.Erase(**table_.Find("b"));
  Add("bb");
  const absl::StatusOr<SessionPage> page = table_.List({.page_size = 10, .page_token = token});
  ASSERT_TRUE(page.ok());
  ASSERT_EQ(page->sessions.size(), 3u);
  EXPECT_EQ(page->sessions[0].id, "bb");
  EXPECT_EQ(page->next_page_token, "");
}

TEST_F(SessionTableTest, RefusesPageTokensThatItDidNotGive) {
  for (const char* token : {"x", "p1", "p16", "p1zz", "p141",
                            "p2"
                            "61",
                            "p161 ", "P161"}) {
    EXPECT_EQ(DetailOf(table_.List({.page_token = token}).status()).field, "page_token") << token;
  }
  EXPECT_FALSE(table_.List({.page_token = std::string(1 << 20, '6')}).ok());
}

TEST_F(SessionTableTest, ExpiresIdleSessionsInOrderOfTheirTime) {
  Add("late", absl::Seconds(30));
  Add("early", absl::Seconds(10));
  EXPECT_EQ(table_.NextExpiry(), now_ + absl::Seconds(10));
  EXPECT_EQ(table_.FindExpired(now_ + absl::Seconds(9)), nullptr);
  Session* expired = table_.FindExpired(now_ + absl::Seconds(10));
  ASSERT_NE(expired, nullptr);
  EXPECT_EQ(expired->id, "early");
  table_.Erase(*expired);
  EXPECT_EQ(table_.NextExpiry(), now_ + absl::Seconds(30));
}

TEST_F(SessionTableTest, ARequestStopsTheClockAndItsEndStartsItAnew) {
  Session& session = Add("a", absl::Seconds(10));
  table_.Open(session, 1);
  EXPECT_EQ(table_.FindExpired(now_ + absl::Hours(1)), nullptr);
  table_.Close(session, now_ + absl::Hours(1));
  EXPECT_EQ(table_.NextExpiry(), now_ + absl::Hours(1) + absl::Seconds(10));
  EXPECT_EQ(table_.Info(session).expire_time, table_.NextExpiry());
}

TEST_F(SessionTableTest, EtagsChangeWithThePositionAndWithTheLifeOfAnId) {
  Session& session = Add("a");
  const std::string first = table_.Info(session).etag;
  EXPECT_EQ(table_.Info(session).etag, first);
  session.position = 7;
  EXPECT_NE(table_.Info(session).etag, first);
  table_.Erase(session);
  EXPECT_NE(table_.Info(Add("a")).etag, first);
}

TEST_F(SessionTableTest, CountsSessionsByState) {
  Session& session = Add("a");
  Add("b");
  table_.SetState(session, SessionState::kDecoding);
  EXPECT_EQ(table_.count_by_state()[static_cast<int>(SessionState::kIdle)], 1u);
  EXPECT_EQ(table_.count_by_state()[static_cast<int>(SessionState::kDecoding)], 1u);
  table_.Erase(session);
  EXPECT_EQ(table_.count_by_state()[static_cast<int>(SessionState::kDecoding)], 0u);
}

}  // namespace
}  // namespace mambad

// mambactl chat, on a terminal and in a pipe.
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_server.h"
#include "tests/support/process.h"
#include "tests/support/pty_process.h"

namespace mambad::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kCtrlC[] = "\x03";
constexpr char kCtrlD[] = "\x04";
constexpr char kPrompt[] = "\x1b[2m> \x1b[0m";  // dim

class ChatTest : public ::testing::Test {
 protected:
  std::vector<std::string> Command(std::vector<std::string> more = {}) const {
    std::vector<std::string> command = {
        MAMBAD_BINARY_DIR "/mambactl", "chat", "--server", server_.address(), "--max-tokens", "5"};
    command.insert(command.end(), more.begin(), more.end());
    return command;
  }

  FakeServer server_;
};

TEST_F(ChatTest, EachTurnSendsItsNewWordsAlone) {
  PtyProcess chat(Command());
  ASSERT_TRUE(chat.WaitFor(kPrompt));
  chat.Type("one two\r");
  ASSERT_TRUE(chat.WaitFor(TextOfTokens(5)));
  ASSERT_TRUE(chat.WaitFor("position 7, LENGTH"));
  ASSERT_TRUE(chat.WaitFor(kPrompt));
  chat.Type("three\r");
  ASSERT_TRUE(chat.WaitFor("position 13, LENGTH"));
  ASSERT_TRUE(chat.WaitFor(kPrompt));
  EXPECT_TRUE(server_.Position("sessions/made-0").has_value());
  chat.Type("/quit\r");
  EXPECT_EQ(chat.Wait(), 0);

  const std::vector<v1::GenerateRequest> requests = server_.generate_requests();
  ASSERT_EQ(requests.size(), 2U);
  EXPECT_EQ(requests[0].prompt().text(), "one two");
  EXPECT_EQ(requests[1].prompt().text(), "\nthree");
  EXPECT_EQ(requests[1].expect_position(), 7U);
  EXPECT_FALSE(server_.Position("sessions/made-0").has_value()) << "a session that chat opened ends with it";
}

TEST_F(ChatTest, CtrlCStopsTheAnswerAndThenTheProgram) {
  server_.StallAfter(2);
  PtyProcess chat(Command());
  ASSERT_TRUE(chat.WaitFor(kPrompt));
  chat.Type("one two\r");
  ASSERT_TRUE(chat.WaitFor(" w0 w1"));
  chat.Type(kCtrlC);
  ASSERT_TRUE(chat.WaitFor("stopped, position 4")) << chat.shown();
  ASSERT_TRUE(chat.WaitFor(kPrompt));

  server_.StallAfter(std::nullopt);
  chat.Type("go on\r");
  ASSERT_TRUE(chat.WaitFor("position 11, LENGTH")) << chat.shown();
  ASSERT_TRUE(chat.WaitFor(kPrompt));
  chat.Type(kCtrlC);
  ASSERT_TRUE(chat.WaitFor("Ctrl-C again"));
  ASSERT_TRUE(chat.WaitFor(kPrompt));
  chat.Type(kCtrlC);
  EXPECT_EQ(chat.Wait(), 0);
}

TEST_F(ChatTest, CtrlDLeaves) {
  PtyProcess chat(Command());
  ASSERT_TRUE(chat.WaitFor(kPrompt));
  chat.Type(kCtrlD);
  EXPECT_EQ(chat.Wait(), 0);
}

TEST_F(ChatTest, LinesCanBeEditedAndRecalled) {
  PtyProcess chat(Command());
  ASSERT_TRUE(chat.WaitFor(kPrompt));
  chat.Type(
      "wrod\x1b[D\x1b[D\x7f"
      "\x1b[C"
      "r\r");  // left, left, delete the r, right over the o, r again
  ASSERT_TRUE(chat.WaitFor("LENGTH"));
  ASSERT_TRUE(chat.WaitFor(kPrompt));
  chat.Type("\x1b[A\r");
  ASSERT_TRUE(chat.WaitFor("LENGTH"));
  EXPECT_EQ(server_.generate_requests()[0].prompt().text(), "word");
  EXPECT_EQ(server_.generate_requests()[1].prompt().text(), "\nword");
}

TEST_F(ChatTest, CommandsForkAndGoBack) {
  PtyProcess chat(Command());
  ASSERT_TRUE(chat.WaitFor(kPrompt));
  chat.Type("/help\r");
  ASSERT_TRUE(chat.WaitFor("A base model does not answer: it continues the text"));
  chat.Type("one\r");
  ASSERT_TRUE(chat.WaitFor("position 6, LENGTH"));
  chat.Type("/fork b\r");
  ASSERT_TRUE(chat.WaitFor("in sessions/b, position 6; /switch made-0 goes back"));
  chat.Type("two\r");
  ASSERT_TRUE(chat.WaitFor("position 12, LENGTH"));
  chat.Type("/switch made-0\r");
  ASSERT_TRUE(chat.WaitFor("in sessions/made-0, position 6"));
  chat.Type("/list\r");
  ASSERT_TRUE(chat.WaitFor("sessions/b, position 12"));
  chat.Type("/set temperature 0.5\r");
  ASSERT_TRUE(chat.WaitFor("temperature is 0.5"));
  chat.Type("/new\r");
  ASSERT_TRUE(chat.WaitFor("in sessions/made-1, position 0"));
  chat.Type("/info\r");
  ASSERT_TRUE(chat.WaitFor("the same at every position"));
  chat.Type("/nonsense\r");
  ASSERT_TRUE(chat.WaitFor("no such command"));
}

TEST_F(ChatTest, AnErrorEndsTheTurnAndNotTheProgram) {
  PtyProcess chat(Command());
  ASSERT_TRUE(chat.WaitFor(kPrompt));
  server_.FailNext({{.code = grpc::StatusCode::ABORTED, .message = "busy", .reason = "SESSION_BUSY"}});
  chat.Type("one\r");
  ASSERT_TRUE(chat.WaitFor("mambactl: busy (ABORTED: SESSION_BUSY)"));
  ASSERT_TRUE(chat.WaitFor(kPrompt));
  chat.Type("two\r");
  ASSERT_TRUE(chat.WaitFor("LENGTH"));
}

TEST_F(ChatTest, APipeGetsTextWithoutPromptsOrEscapes) {
  const ProcessResult result = RunProcess(Command(), "one two\nthree\n");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, TextOfTokens(5) + "\n" + TextOfTokens(5) + "\n");
  EXPECT_EQ(result.err, "");
}

TEST_F(ChatTest, APipeEndsAtTheFirstError) {
  const ProcessResult result = RunProcess(Command({"--session", "missing"}), "one\n");
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("SESSION_NOT_FOUND"));
}

TEST_F(ChatTest, JsonIsOneObjectATurn) {
  const ProcessResult result = RunProcess(Command({"--json"}), "one\ntwo\n");
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 2);
  EXPECT_THAT(result.out, AllOf(HasSubstr("\"session_position\":6"), HasSubstr("\"session_position\":12"),
                                Not(HasSubstr("\x1b"))));
}

TEST_F(ChatTest, AGivenSessionStays) {
  ASSERT_EQ(RunProcess(Command({"--keep"}), "one\n").exit_code, 0);
  EXPECT_EQ(server_.Position("sessions/made-0"), 6U);
  ASSERT_EQ(RunProcess(Command({"--session", "made-0"}), "two\n").exit_code, 0);
  EXPECT_EQ(server_.Position("sessions/made-0"), 12U);
}

}  // namespace
}  // namespace mambad::testing

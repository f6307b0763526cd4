-- The prompt, driven through a pseudo-terminal.

local cli = require "tests.cli"
local temporary = dofile "tests/temporary.lua"

local home = temporary()
assert(os.execute("mkdir " .. home))

local has_python = os.execute "python3 -c 'import pty' 2>/dev/null"

local function hex(text)
  return (text:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

--- Types and expects in turn: a string is a line to type, { "text" } a text to wait for, { key = "..." } keys without a
--- return. Begins after the first prompt and ends with Ctrl-D.
local function session(steps)
  local lines = { "expect " .. hex "> " }
  for _, step in ipairs(steps) do
    if type(step) == "string" then
      lines[#lines + 1] = "send " .. hex(step .. "\n")
    elseif step.key then
      lines[#lines + 1] = "send " .. hex(step.key)
    else
      lines[#lines + 1] = "expect " .. hex(step[1])
    end
  end
  lines[#lines + 1] = "send " .. hex "\4"
  local script = temporary()
  local file = assert(io.open(script, "w"))
  file:write(table.concat(lines, "\n"), "\n")
  file:close()
  local result = cli.shell(("HOME=%s XDG_STATE_HOME= TERM=dumb python3 tests/terminal.py %s <%s"):format(
    home, cli.program, script))
  os.remove(script)
  assert.equal("", result.err)
  assert.equal(0, result.status)
  return result.out
end

describe("the prompt", function()
  if not has_python then
    pending "needs python3 with its pty module: apt-get install python3"
    return
  end

  teardown(function() os.execute("rm -r " .. home) end)

  it("greets, and leaves at Ctrl-D", function()
    assert.truthy(session {}:find "^Lacuna %d")
  end)

  it("leaves at exit and quit too, unless they are names of the user's", function()
    for _, word in ipairs { "exit", "quit", "exit()", " quit ( ) " } do
      local result = cli.shell(("printf '%%s\\n' '%s' '6 * 7' | HOME=%s %s -i"):format(word, home, cli.program))
      assert.same({ 0, "" }, { result.status, result.err })
      assert.is_nil(result.out:find("42", 1, true))
    end
    session { "quit = 3", "quit", { "\n3\r\n> " } }
  end)

  it("prints expressions, all results, and nothing for statements", function()
    session {
      "1 + 1", { "\n2\r\n> " },
      "'a', nil, {}", { '\n"a"  nil  {}\r\n> ' },
      "x = 3", { "x = 3\r\n> " },
      "x * 2", { "\n6\r\n> " },
      "{ 1, 'b', n = { 2 } }", { '\n{ 1, "b", n = { 2 } }\r\n> ' },
    }
  end)

  it("keeps the last value in _, and has lc", function()
    session {
      "20 + 1", { "\n21\r\n> " },
      "_ * 2", { "\n42\r\n> " },
      "_ + 1", { "\n43\r\n> " },
      "lc == require 'lacuna'", { "\ntrue\r\n> " },
    }
  end)

  it("shows tables inside tables, bounded, and the library in words", function()
    session {
      "{ 1, { x = {} }, { { { 2 } } } }", { "\n{ 1, { x = {} }, { { { ... } } } }\r\n> " },
      "t = {} for i = 1, 99 do t[i] = { i, i, i, i, i, i, i } end", { "\r\n> " },
      "t", { "{ 1, 1, 1, 1, 1, ... 2 more }" }, { "... 79 more }\r\n> " },
      "lc", { "\nlacuna 0.1.0: " }, { "\r\n> " },
    }
  end)

  it("reads on until a chunk is complete", function()
    session {
      "function double(v)", { ">> " },
      "  return v * 2", { ">> " },
      "end", { "\r\n> " },
      "double(4)", { "\n8\r\n> " },
      "double(", { ">> " }, "5)", { "\n10\r\n> " },
      "{ 1,", { ">> " }, "2 }", { "\n{ 1, 2 }\r\n> " },
    }
  end)

  it("makes globals of a line that begins with local", function()
    session {
      "local a, b = 1, 2", { "\r\n> " },
      "a + b", { "\n3\r\n> " },
      "local function f() return 7 end", { "\r\n> " },
      "f()", { "\n7\r\n> " },
    }
  end)

  it("prints an error in one line and goes on", function()
    session {
      "x = 5", { "\r\n> " },
      "error 'oh'", { "\nprompt:1: oh\r\n> " },
      "nothing.there", { "\nprompt:1: attempt to index a nil value (global 'nothing')\r\n> " },
      "1 +* 2", { "\nprompt:1: unexpected symbol near '*'\r\n> " },
      "lc.parms", { "\nprompt:1: lc.parms: no such name (did you mean 'params'?)\r\n> " },
      "x", { "\n5\r\n> " },
    }
  end)

  it("drops a half-typed line, and an incomplete chunk, at Ctrl-C", function()
    session {
      { key = "error 'typed'" }, { "error 'typed'" }, { key = "\3" }, { "^C\r\n> " },
      "1 + 2", { "\n3\r\n> " },
      "function f()", { ">> " }, { key = "\3" }, { "^C\r\n> " },
      "3 + 4", { "\n7\r\n> " },
    }
  end)

  it("stops a loop in Lua at Ctrl-C with the state whole", function()
    session {
      "n = 0", { "\r\n> " },
      "while true do n = n + 1 if n == 9 then print 'go' end end", { "\ngo\r\n" },
      { key = "\3" }, { "interrupted\r\n> " },
      "n > 8", { "\ntrue\r\n> " },
    }
  end)

  it("stops a loop inside a coroutine, and one that catches errors, at Ctrl-C", function()
    session {
      "coroutine.wrap(function() print 'go' while true do end end)()", { "\ngo\r\n" }, { key = "\3" },
      { "interrupted\r\n> " },
      "coroutine.resume(coroutine.create(function() print 'go' while true do end end))", { "\ngo\r\n" },
      { key = "\3" }, { "interrupted" }, { "\r\n> " },
      "1 + 1", { "\n2\r\n> " },
    }
  end)

  it("says how long a chunk took", function()
    local out = session {
      ":time 1 + 1", { "\n2\r\n" }, { " s\r\n> " },
      ":tine 1", { "unknown command ':tine'" }, { "\r\n> " },
    }
    assert.truthy(out:find "\n%d+%.%d+ s\r\n")
    assert.truthy(out:find("unknown command ':tine' (did you mean 'time'?)", 1, true))
  end)

  it("completes names, fields, library fields and file names", function()
    session {
      { key = "str\t" }, { "string" }, { key = ".for\t" }, { "string.format" }, "", { "function: " }, { "\r\n> " },
      { key = "lc.schedu\t" }, { "lc.schedule" }, "", { "function: " }, { "\r\n> " },
      { key = "'tests/spec/prom\t" }, { "tests/spec/prompt_spec.lua" }, "'", { "prompt_spec.lua" }, { "\r\n> " },
      { key = "string.f\t" }, { "find    format" }, { key = "\3" }, { "^C\r\n> " },
    }
  end)

  it("describes what it is asked about", function()
    session {
      "help()", { "?NAME, help(x)" }, { "\r\n> " },
      "?lc.params", { "Declares a recipe's options" }, { "\r\n> " },
      "?lc.parms", { "nothing is known of 'lc.parms'" }, { "\r\n> " },
      "help(lc.params)", { "function params.params(defaults, arguments)" }, { "\r\n> " },
    }
  end)

  it("keeps its history for the next session", function()
    session { "answer = 6 * 7", { "\r\n> " } }
    session { { key = "\16" }, { "answer = 6 * 7" }, "", { "\r\n> " }, "answer", { "\n42\r\n> " } }
  end)
end)

describe("help", function()
  local describe_topic = require("lacuna.help").describe
  local lc = require "lacuna"

  it("finds a function by name, by name without lc, and by itself, with its options", function()
    local text = describe_topic "lc.zeros"
    assert.truthy(text:find "^lc.zeros%(shape, {dtype, device}%) %-> tensor\n")
    assert.truthy(text:find "\n  dtype ")
    assert.equal(text, describe_topic "zeros")
    assert.equal(text, describe_topic(lc.zeros))
  end)

  it("describes methods, values, modules and functions written in Lua", function()
    assert.truthy(describe_topic "tensor:matmul":find("x:matmul(y) -> tensor", 1, true))
    assert.truthy(describe_topic(lc.zeros { 2 }):find "^a tensor; methods:\n.* matmul ")
    for _, value in ipairs { lc.zeros { 2 }.add_, lc.ramp { { 0, 0 }, { 1, 1 } }.at, lc.tokenizer.bytes().encode } do
      assert.truthy(describe_topic(value):find "^%l+[:(].* %-> ") -- by the function itself
    end
    local of_model = describe_topic "lc.model" -- what makes a model, then what a model can do
    assert.truthy(of_model:find "^lc%.model%(options%)\n  A fresh model: .*\n\nmodel:blocks%(.*\nmodel:loss%(")
    assert.equal("a table with kl", describe_topic "lc.loss")
    assert.truthy(describe_topic "lc.mask":find "lc.mask.of.*mask:hold")
    assert.truthy(describe_topic(lc.params):find "Declares a recipe's options")
    assert.truthy(describe_topic "run:stage":find "^run:stage%(name, models, fn, opts%)\n  Runs fn once")
    assert.truthy(describe_topic "t:skip":find "^t:skip%(things, options%)\n  Leaves tensors out")
    assert.truthy(describe_topic "lc.loss.kl":find "^lc.loss.kl%(student, teacher, options%)\n")
    assert.truthy(describe_topic(describe_topic):find 'What `topic` is, as text')
    assert.equal("a function of Lua's own library", describe_topic(print))
    assert.truthy(describe_topic(lc):find "help%(lc.train%) explains one\nmodels, .*:\n.* train\ntensors:\n.* matmul ")
  end)

  it("suggests a name for one that is not known", function()
    assert.equal("nothing is known of 'lc.zeross' (did you mean 'zeros'?)", describe_topic "lc.zeross")
    assert.equal("nothing is known of 'lc.prun' (did you mean 'prune'?)", describe_topic "lc.prun")
  end)
end)

describe("completion", function()
  local complete = require "lacuna.repl.complete"

  setup(function()
    rawset(_G, "x_of_test", require("lacuna").zeros { 2 })
    rawset(_G, "lc_of_test", require "lacuna")
  end)
  teardown(function()
    rawset(_G, "x_of_test", nil)
    rawset(_G, "lc_of_test", nil)
  end)

  for line, want in pairs {
    ["x_of_test:matm"] = "ul",
    ["lc_of_test.prune.magn"] = "itude",
    ["y = lc_of_test.aran"] = "ge",
    ["lc.prune.magnitude(layers, { spa"] = "rsity = ",
    ["lc.prune.magnitude(f(1), { sparsity = 0.5, sc"] = "ope = ",
    ["for k, v in pai"] = "rs",
    ["repe"] = "at",
    ["lc.load 'tests/spec/prompt_s"] = "pec.lua",
    ["lc.load 'tests/sp"] = "ec/",
  } do
    it("continues " .. line, function() assert.equal(want, (complete(line))) end)
  end

  it("lists what could follow", function()
    local insert, list = complete "x_of_test:su"
    assert.same({ nil, "sub  sum" }, { insert, list })
    assert.is_nil((complete "x_of_test:nothing"))
  end)
end)

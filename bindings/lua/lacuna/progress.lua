--- The progress bar of a training loop, on standard error where that is a terminal: rate, time left, loss.

local core = require "lacuna.core.train"

local progress = {}
progress.__index = progress

local WIDTH = 24 -- of the bar, in characters, where there is room
local NARROWEST = 4 -- a bar with less room is left out
local INTERVAL = 0.1 -- seconds between drawings

--- 75 -> "1:15", 3700 -> "1:01:40".
local function clock(seconds)
  local s = math.floor(seconds + 0.5)
  if s >= 3600 then return ("%d:%02d:%02d"):format(s // 3600, s // 60 % 60, s % 60) end
  return ("%d:%02d"):format(s // 60, s % 60)
end

--- 1234.5 -> "1,234", 12.34 -> "12.3".
local function rate(x)
  if x < 100 then return ("%.1f"):format(x) end
  return (("%d"):format(math.floor(x)):reverse():gsub("%d%d%d", "%0,"):reverse():gsub("^,", ""))
end

--- A bar; it shows nothing unless `wanted` and standard error is a terminal.
---@param label string what runs
---@param first integer steps done before
---@param steps integer steps in all
---@param wanted boolean
function progress.new(label, first, steps, wanted)
  local columns = core.terminal_width()
  return setmetatable({
    label = label, first = first, steps = steps, shown = wanted and columns ~= nil, columns = columns,
    began = core.seconds(), drawn = 0, tokens = 0,
  }, progress)
end

local function length(text) return utf8.len(text) or #text end

--- label [####....] words, in fewer than `columns` characters: a line that wrapped could not be drawn over.
---@param label string
---@param share number of the bar that is full
---@param words string
---@param columns integer
---@return string
function progress.line(label, share, words, columns)
  local room = math.min(WIDTH, columns - 1 - length(label) - length(words) - #" [] ")
  local bar = ""
  if room >= NARROWEST then
    local full = math.floor(room * share)
    bar = ("[%s%s] "):format(("#"):rep(full), ("."):rep(room - full))
  end
  local line = ("%s %s%s"):format(label, bar, words)
  return length(line) < columns and line or line:sub(1, (utf8.len(line) and utf8.offset(line, columns) or columns) - 1)
end

--- Tells the bar that a step is done.
---@param step integer
---@param loss number
---@param tokens integer read in this step
function progress:update(step, loss, tokens)
  self.tokens = self.tokens + tokens
  local now = core.seconds()
  if not self.shown or (now - self.drawn < INTERVAL and step < self.steps) then return end
  self.drawn = now
  local seconds = math.max(now - self.began, 1e-9)
  local left = seconds / (step - self.first) * (self.steps - step)
  local words = ("%d/%d  loss %.4f  %s tokens/s  %s left"):format(step, self.steps, loss, rate(self.tokens / seconds),
    clock(left))
  io.stderr:write("\r", progress.line(self.label, step / self.steps, words, self.columns), "\27[K")
end

--- Takes the bar off the screen.
function progress:close()
  if self.shown and self.drawn > 0 then io.stderr:write "\r\27[K" end
  self.shown = false
end

return progress

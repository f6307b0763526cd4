--- The progress bar of a training loop, on standard error where that is a terminal: rate, time left, loss.

local core = require "lacuna.core.train"

local progress = {}
progress.__index = progress

local WIDTH = 24 -- of the bar, in characters
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
  return setmetatable({
    label = label, first = first, steps = steps, shown = wanted and core.is_terminal(),
    began = core.seconds(), drawn = 0, tokens = 0,
  }, progress)
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
  local full = math.floor(WIDTH * step / self.steps)
  io.stderr:write(("\r%s [%s%s] %d/%d  loss %.4f  %s tokens/s  %s left\27[K"):format(self.label, ("#"):rep(full),
    ("."):rep(WIDTH - full), step, self.steps, loss, rate(self.tokens / seconds), clock(left)))
end

--- Takes the bar off the screen.
function progress:close()
  if self.shown and self.drawn > 0 then io.stderr:write "\r\27[K" end
  self.shown = false
end

return progress

"""The studio's interface: six screens that turn keys into jobs and journals into pictures; no work of its own."""

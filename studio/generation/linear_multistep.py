"""The linear multistep sampler without scipy: what is integrated is a polynomial, so its integral is exact."""

from diffusers.schedulers.scheduling_lms_discrete import LMSDiscreteScheduler
from numpy.polynomial import Polynomial


class LinearMultistepScheduler(LMSDiscreteScheduler):  # type: ignore[misc]  # diffusers is untyped
    def get_lms_coefficient(self, order: int, t: int, current_order: int) -> float:
        """Adams-Bashforth coefficient of an earlier derivative over one step between uneven noise levels."""
        levels = [float(self.sigmas[t - back]) for back in range(order)]
        basis = Polynomial([1.0])
        for back, level in enumerate(levels):
            if back != current_order:
                basis *= Polynomial([-level, 1.0]) / (levels[current_order] - level)
        integral = basis.integ()
        return float(integral(float(self.sigmas[t + 1])) - integral(levels[0]))
